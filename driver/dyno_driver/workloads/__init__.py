"""The workloads that ship with Dyno: each is a small file that sets options of `dyno drive` and `dyno compare`."""
