"""Tests of this machine: `pytest --pyargs dtype_sampler.checks`.

They tell which dtypes survive which trips on each device, as `dtype-sampler devices` does, with
the plugin's sampling: k dtypes a device and run, all with `--all-dtypes`.
"""
