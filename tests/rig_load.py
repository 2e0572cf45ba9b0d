"""A run of the load generator in which all was well."""

from sts_trio.load.figures import Audio, Clears, Delays, Pings, Run

AUDIO = Audio(1000, 1000, 100.0, 0, 0, 0, 0, 0)
DELAYS = Delays(1000, 5.0, 8.0, 10.0, 11.0, 12.0)
RUN = Run(
    calls=100,
    seconds=10.0,
    live=100,
    churned=0,
    cpu_ms_per_call_second=1.0,
    utilisation=0.1,
    kb_per_call=100.0,
    rss_mb=50.0,
    up=AUDIO,
    down=AUDIO,
    up_ms=DELAYS,
    down_ms=DELAYS,
    clear_ms=DELAYS,
    setup_ms=DELAYS,
    reach_ms=DELAYS,
    gone_ms=DELAYS,
    clears=Clears(10, 10, 0),
    pings=Pings(0, 0),
    marks=0,
    refused=0,
    cut_off=0,
    strange=0,
    left_open=0,
    placed=100,
    failed=0,
    own_utilisation=0.1,
    own_lag_ms=1.0,
    own_lag=DELAYS,
    void=None,
)
