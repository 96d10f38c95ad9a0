from __future__ import annotations

from pathlib import Path
from typing import Any

import ipyparallel
import pytest
from ipyparallel.cluster import launcher as launchers

from stoker.profile import apply_plan, read_plan
from stoker.profile.ipcluster import render_ipcluster
from stoker.spec import parse_spec, read_spec
from stoker.system.machine import Cores

CORES = Cores(logical=4, physical=2)
READY_MADE = Path(__file__).parent.parent / "cluster_profiles"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
PATIENCE = ["--IPEngine.max_heartbeat_misses=215", "--IPEngine.timeout=60.0", "--IPEngine.wait_for_url_file=60.0"]
ENGINE = ["-m", "ipyparallel.engine"]


def _render(*groups: dict[str, Any]) -> dict[str, object]:
    """What is rendered beyond what every cluster gets."""
    traits = render_ipcluster(parse_spec({"engines": list(groups)}, base=Path("/lab")), CORES)
    common = {
        "Cluster.engine_timeout": 60,
        "Cluster.send_engines_connection_env": False,
        "LocalEngineSetLauncher.delay": 0.0,
    }
    assert common.items() <= traits.items()
    return {name: value for name, value in traits.items() if name not in common}


def _load(*groups: dict[str, Any]) -> tuple[ipyparallel.Cluster, Any]:
    """What plain ipyparallel makes of an applied spec: its cluster, and its launcher of engines."""
    spec = parse_spec({"cluster": {"profile": "lab"}, "engines": list(groups)}, base=Path("/lab"))
    plan = read_plan(spec, cores=CORES)
    apply_plan(plan)
    cluster = ipyparallel.Cluster(profile_dir=str(plan.directory.path), cluster_id="", shutdown_atexit=False)
    launcher = cluster.engine_launcher_class(
        work_dir=str(plan.directory.path), parent=cluster, profile_dir=cluster.profile_dir, cluster_id=""
    )
    return cluster, launcher


def test_local_groups_share_what_all_of_them_say() -> None:
    assert _render({"count": 1, "python": "/p"}, {"count": "physical", "python": "/p"}, {"launcher": "mpi"}) == {
        "Cluster.engine_launcher_class": "local",
        "Cluster.n": 3,
        "EngineLauncher.environment": ONE_THREAD,
        "EngineLauncher.engine_cmd": ["/p", *ENGINE],
    }


def test_ssh_groups_become_one_table_of_hosts() -> None:
    first = {
        "launcher": "ssh",
        "count": 2,
        "hosts": ["n[1-2]", {"name": "me@gpu:2222", "count": 1, "python": "/gpu/python"}],
        "ssh_options": {"ProxyJump": "gate"},
        "env": {"A": "it's"},
        "threads": 3,
    }
    second = {"launcher": "ssh", "hosts": ["n2", "n3"], "work_dir": "data"}

    traits = _render(first, second)

    environment = {**dict.fromkeys(ONE_THREAD, "3"), "A": "it's"}
    assert traits == {
        "Cluster.engine_launcher_class": "ssh",
        "Cluster.n": 6,
        "SSHEngineSetLauncher.engines": {
            "n1": 2,
            "n2": 2,
            "me@gpu:2222": {
                "n": 1,
                "remote_python": "/gpu/python",
                "engine_cmd": ["/gpu/python", *ENGINE],
                "ssh_args": ["-o", "ProxyJump=gate", "-p", "2222"],
                "scp_args": ["-o", "ProxyJump=gate", "-P", "2222"],
            },
            "n3": {
                "n": 1,
                "engine_args": [*PATIENCE, "--IPEngine.work_dir=data"],
                "environment": {},
                "ssh_args": [],
                "scp_args": [],
            },
        },
        "SSHEngineSetLauncher.remote_python": "python3",
        "SSHEngineSetLauncher.engine_cmd": ["python3", *ENGINE],
        "SSHEngineSetLauncher.engine_args": PATIENCE,
        "SSHEngineSetLauncher.environment": environment,
        "SSHEngineSetLauncher.ssh_args": ["-o", "ProxyJump=gate"],
        "SSHEngineSetLauncher.scp_args": ["-o", "ProxyJump=gate"],
    }


def test_ipyparallel_takes_the_hosts_and_the_total_as_limit() -> None:
    cluster, launcher = _load({"launcher": "ssh", "count": 2, "hosts": ["a", {"name": "b", "count": 4}], "python": "p"})

    assert cluster.engine_launcher_class is launchers.SSHEngineSetLauncher
    assert cluster.n == 6
    assert launcher.engines == {"a": 2, "b": 4}
    assert launcher.engine_cmd == ["p", *ENGINE]
    assert launcher.engine_args == PATIENCE
    assert launcher.environment == ONE_THREAD
    assert launcher.delay == 0


def test_ipyparallel_starts_each_engine_over_ssh_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(
        launchers.SSHEngineLauncher,
        "start",
        lambda engine, hostname=None, user=None, port=None: started.append(
            (hostname, user, port, engine.ssh_args, engine.scp_args, engine.program, engine.environment)
        ),
    )
    _, launcher = _load(
        {
            "launcher": "ssh",
            "count": 1,
            "hosts": [{"name": "me@b:2222", "python": "q"}, "a"],
            "ssh_options": {"ProxyJump": "gate"},
            "env": {"A": "1"},
        }
    )

    launcher.start(2)

    gate = ["-o", "ProxyJump=gate"]
    assert started == [
        ("b", "me", "2222", [*gate, "-p", "2222"], [*gate, "-P", "2222"], ["q", *ENGINE], {"A": "1"}),
        ("a", None, None, gate, gate, ["python3", *ENGINE], {"A": "1"}),
    ]


def test_ipyparallel_writes_the_script_of_a_slurm_job() -> None:
    cluster, launcher = _load(
        {
            "launcher": "slurm",
            "count": 3,
            "partition": "gpu",
            "account": "lab",
            "qos": "high",
            "time_limit": "01:30:00",
            "directives": ["--mem=4G", "--comment={not a field}"],
            "python": "/env/bin/python",
            "env": {"A": "it's {x}"},
            "threads": 2,
            "work_dir": "/data",
        }
    )

    launcher.write_batch_script(cluster.n)

    script = Path(launcher.batch_file)
    assert cluster.engine_launcher_class is launchers.SlurmEngineSetLauncher
    assert launcher.args == ["sbatch", str(script)]
    assert script.name == "ipengine-lab.slurm"
    assert script.read_text() == (
        f"""\
#!/bin/sh
#SBATCH --export=ALL
#SBATCH --job-name=ipengine-lab
#SBATCH --ntasks=3
#SBATCH --output={launcher.output_file}
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --qos=high
#SBATCH --time=01:30:00
#SBATCH --mem=4G
#SBATCH --comment={{not a field}}
export IPP_PROFILE_DIR='{cluster.profile_dir}'
export IPP_CLUSTER_ID=''
export OMP_NUM_THREADS=2
export OPENBLAS_NUM_THREADS=2
export MKL_NUM_THREADS=2
export BLIS_NUM_THREADS=2
export VECLIB_MAXIMUM_THREADS=2
export NUMEXPR_NUM_THREADS=2
export A='it'"'"'s {{x}}'
srun /env/bin/python -m ipyparallel.engine --IPEngine.work_dir=/data
"""
    )


@pytest.mark.parametrize(
    ("launcher", "head"),
    [
        pytest.param("pbs", "#PBS -V|#PBS -N ipengine|#PBS -t 1-1|#PBS -j oe|#PBS -o LOG|#PBS -q long|#PBS -l x"),
        pytest.param("sge", "#$ -V|#$ -S /bin/sh|#$ -N ipengine|#$ -t 1-1|#$ -j y|#$ -o LOG|#$ -q long|#$ -l x"),
        pytest.param(
            "lsf", "#BSUB -env all|#BSUB -J ipengine-lab[1-1]|#BSUB -o LOG|#BSUB -e LOG|#BSUB -q long|#BSUB -l x"
        ),
    ],
)
def test_ipyparallel_writes_the_scripts_of_other_batch_systems(launcher: str, head: str) -> None:
    cluster, found = _load(
        {"launcher": launcher, "count": 1, "queue": "long", "directives": ["-l x"], "python": "/p", "threads": 1}
    )

    found.write_batch_script(cluster.n)

    assert Path(found.batch_file).read_text().splitlines() == [
        "#!/bin/sh",
        *head.replace("LOG", found.output_file).split("|"),
        f"export IPP_PROFILE_DIR='{cluster.profile_dir}'",
        "export IPP_CLUSTER_ID=''",
        *(f"export {name}=1" for name in ONE_THREAD),
        "/p -m ipyparallel.engine",
    ]


def test_like_groups_are_one_job() -> None:
    traits = _render({"launcher": "pbs", "count": 2}, {"launcher": "pbs", "count": 3})

    assert (traits["Cluster.engine_launcher_class"], traits["Cluster.n"]) == ("pbs", 5)


def test_ipyparallel_takes_the_command_of_mpi() -> None:
    cluster, launcher = _load(
        {"launcher": "mpi", "mpi_cmd": ["srun", "--mpi=pmix"], "mpi_args": ["-v"], "python": "/p", "startup": "x = 1"}
    )
    launcher.n = cluster.n

    assert cluster.engine_launcher_class is launchers.MPIEngineSetLauncher
    assert launcher.environment == ONE_THREAD
    assert launcher.args[:9] == ["srun", "--mpi=pmix", "-n", "4", "-v", "/p", *ENGINE, "--mpi"]
    assert launcher.args[9].startswith("--IPEngine.startup_command=_startup = get_ipython().run_cell('x = 1',")


def test_the_batch_script_of_a_cluster_with_an_id_has_a_name_of_its_own() -> None:
    spec = parse_spec(
        {"cluster": {"profile": "lab", "cluster_id": "night"}, "engines": [{"launcher": "sge", "count": 1}]}
    )

    assert render_ipcluster(spec, CORES)["SGEEngineSetLauncher.batch_file_name"] == "ipengine-lab-night.sge"


@pytest.mark.parametrize(
    ("name", "launcher", "n"), [("three_hosts", "ssh", 7), ("slurm", "slurm", 16), ("mpi", "mpi", 4)]
)
def test_ready_made_specs_say_what_plain_ipcluster_starts(name: str, launcher: str, n: int) -> None:
    traits = render_ipcluster(read_spec(READY_MADE / f"{name}.toml"), CORES)

    assert (traits["Cluster.engine_launcher_class"], traits["Cluster.n"]) == (launcher, n)
