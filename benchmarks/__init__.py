"""What normalization costs: `python -m benchmarks --help`.

`workloads` says what is run, `subjects` and `peers` who runs it, `timing` and
`cold` how it is measured, `measuring` when, `roofline` what the least would
be. `results` is the JSON of a run; `tables`, `plots` and `page` show it.
`norms` and `lipschitz` are programs of their own: the estimators and the
network bounds beside published ones.
"""
