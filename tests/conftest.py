from hypothesis import HealthCheck, settings

# A busy machine is no fault of what is tested. A failure is told with what repeats it
# (`print_blob`), so no database is kept: it would be one more thing that differs between runs.
settings.register_profile(
    "suite",
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
