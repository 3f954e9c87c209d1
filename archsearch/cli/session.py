def start(*a):
    raise SystemExit(1)
