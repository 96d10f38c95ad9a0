"""The programs that contenders run: each a file for a fresh interpreter, never imported."""
