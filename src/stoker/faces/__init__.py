"""What people touch: command line, IPython magics, tables. Thin: parse, one call, show."""
