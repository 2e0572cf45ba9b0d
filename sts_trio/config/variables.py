"""What an operator may write: the table of the variables.

Each with the key of `sts-trio.toml` that mirrors it: in lower case,
less `STS_` (`max_calls`, `deepgram_url`). Pure: the environment is handed in.
"""

from typing import Annotated

import msgspec

from sts_trio.config.setting import (
    FUNCTION,
    SECONDS,
    SWITCH,
    VISIBLE,
    AgentKind,
    LogFormat,
    LogLevel,
    Seconds,
    Secret,
    Setting,
    TracesOf,
)
from sts_trio.offline.mode import Mode
from sts_trio.wire.addresses import NUMBER
from sts_trio.wire.dialect import Dialect

FILE = "sts-trio.toml"
TABLES = ("agents", "settings", "numbers", "words", "prices")

URLS = {
    Dialect.V1: "wss://agent.deepgram.com/v1/agent/converse",
    Dialect.LEGACY: "wss://agent.deepgram.com/agent",
}

SETTINGS = {
    setting.variable: setting
    for setting in (
        Setting(
            "DEEPGRAM_API_KEY",
            str | list[str],
            f"{VISIBLE}, several with commas; a token as Bearer TOKEN",
            "Your key at Deepgram: one for all addresses, or one for each address of"
            " `DEEPGRAM_URL`, in the same order. For temporary tokens see `STS_CREDENTIAL`.",
            secret=True,
        ),
        Setting(
            "DEEPGRAM_URL",
            str | list[str],
            f"a websocket URL like {URLS[Dialect.V1]}",
            "Where agents are dialled. Several addresses, with commas, are tried in order within"
            " one call. Without a path it is Deepgram's; a query is sent along. `ws://` is accepted"
            " for this machine alone.",
            default=URLS[Dialect.V1],
        ),
        Setting(
            "STS_CREDENTIAL",
            FUNCTION,
            "module:function",
            "Your own `async def credential(address: str) -> str`, which is asked at each dial and"
            " answers with a key, or with `Bearer` and a temporary token, within 1.5 s. See"
            " [Credentials](#credentials).",
        ),
        Setting(
            "STS_DIALECT",
            Dialect,
            "v1 or legacy",
            "The language of the Voice Agent API: `legacy` is the old `SettingsConfiguration` API.",
            default="v1",
        ),
        Setting(
            "STS_AGENT",
            AgentKind,
            "deepgram or offline",
            "Who answers. Not set: Deepgram where there is a key, else the offline agent.",
        ),
        Setting(
            "STS_OFFLINE_MODE",
            Mode,
            "ears or scripted",
            "Whether the offline agent recognises words. Not set: where the `demo` extra is"
            " installed.",
        ),
        Setting(
            "STS_INSECURE_AGENT",
            bool,
            SWITCH,
            "`1` accepts `ws://` for other machines too. The key and the call then cross the"
            " network unencrypted.",
            default="0",
        ),
        Setting(
            "TWILIO_AUTH_TOKEN",
            str | list[str],
            f"{VISIBLE}, several with commas",
            "Twilio's token, with which requests are signed. Give two while you rotate it. Not"
            " set: only this machine is served, see [operating.md](operating.md#who-is-let-in).",
            secret=True,
        ),
        Setting(
            "TWILIO_ACCOUNT_SID",
            Annotated[str, msgspec.Meta(pattern=r"^AC[0-9a-fA-F]{32}\Z")],
            "AC and 32 hexadecimal digits",
            "Your Twilio account, for Twilio's REST API, with the first token. The server needs it"
            " to place calls, and to end or transfer calls that came by a TwiML Bin.",
        ),
        Setting(
            "STS_CALLER_ID",
            Annotated[str, msgspec.Meta(pattern=rf"^{NUMBER}\Z")],
            "a number like +15005550006",
            "The number of yours that placed calls come from. A transferred caller who has no"
            " number (`client:…`, `sip:…`), or withholds it, is shown by it, too.",
        ),
        Setting(
            "STS_DIAL_PREFIXES",
            str | list[str],
            "beginnings of numbers, like +1 or +4420, several with commas",
            "Beginnings of the numbers that may be dialled. Not set: no number may. `+1` includes"
            " premium numbers (+1 900) and countries that cost more (+1 876, +1 284, …).",
        ),
        # The most that the dialler keeps in mind, see `outbound/progress.py`.
        Setting(
            "STS_DIAL_PER_DAY",
            Annotated[int, msgspec.Meta(ge=0, le=10_000)],
            "a whole number from 0 to 10000",
            "How many calls may be placed in a UTC day, by all processes that share a database"
            " together. Without one each counts its own, from zero after a restart.",
            default="100",
        ),
        # Twilio's limit is 1, and 30 with a business profile.
        Setting(
            "STS_DIALS_PER_SECOND",
            Annotated[float, msgspec.Meta(ge=0.1, le=30)],
            "a number from 0.1 to 30",
            "How fast calls are placed.",
            default="1",
        ),
        Setting(
            "STS_TRANSFER_NUMBERS",
            str | list[str],
            "numbers like +15005550006, several with commas",
            "The numbers that callers may be transferred to. Not set: none.",
        ),
        Setting(
            "STS_PUBLIC_URL",
            str,
            "a URL like https://example.com, without a query",
            "The address by which Twilio knows this server; it may have a path. Not set: taken"
            " from the request, so a request that Twilio signed for another server of your account"
            " passes here too.",
        ),
        Setting(
            "STS_ALLOW_UNSIGNED",
            bool,
            SWITCH,
            "`1` serves anyone, at your agent's cost.",
            default="0",
        ),
        Setting(
            "STS_BINS",
            bool,
            SWITCH,
            "`0` closes the bare `/twilio`, which only TwiML Bins need. Streams then come by"
            " `/twilio/TOKEN` alone.",
            default="1",
        ),
        Setting(
            "STS_RECONNECT",
            bool,
            SWITCH,
            "`0`: a lost agent ends the call, and is not dialled again.",
            default="1",
        ),
        Setting(
            "STS_DIAL_AHEAD",
            bool,
            SWITCH,
            "`1` dials the agent while the phone still rings: at most twice for one call, ten times"
            " a second for all, and within `STS_MAX_CALLS`. A caller who hangs up then costs a"
            " session of 20 s. Set `0` where `/twiml` and `/twilio` may reach different processes.",
            default="1",
        ),
        Setting(
            "STS_CHOOSE_AGENT",
            FUNCTION,
            "module:function",
            "Your own `async def choose_agent(call: CallInfo) -> str`, which names the agent that"
            " answers, or returns an `AgentChoice`, within 2 s. See"
            " [Which agent answers](#which-agent-answers).",
        ),
        Setting(
            "STS_MAX_CALLS",
            Annotated[int, msgspec.Meta(ge=1, le=100_000)],
            "a whole number from 1 to 100000",
            "How many calls this process takes at once.",
            default="500",
        ),
        Setting(
            "STS_AGENT_SESSIONS",
            Annotated[int, msgspec.Meta(ge=1, le=100_000)],
            "a whole number from 1 to 100000",
            "How many sessions your account with the agent's vendor may have at once, in all"
            " processes that share a database together. A call for which there is none waits for"
            " one. Not set: no limit of ours.",
        ),
        Setting(
            "STS_FORWARD_MS",
            Annotated[float, msgspec.Meta(ge=20, le=400)],
            "milliseconds from 20 to 400",
            "How much of the caller's audio is sent to the agent at once, at least.",
            default="20",
        ),
        Setting(
            "STS_FUNCTIONS",
            str | list[str],
            "modules with functions, like my_functions or my_functions:look_up,"
            " several with commas",
            "What agents may call, see [functions.md](functions.md): whole modules, or single"
            " functions as `module:name`.",
        ),
        Setting(
            "STS_FAST_LANE",
            bool,
            SWITCH,
            "`0` leaves callers' sockets to Hypercorn, see"
            " [operating.md](operating.md#the-fast-lane).",
            default="1",
        ),
        Setting(
            "STS_ADMIN_TOKEN",
            Secret,
            VISIBLE,
            "The bearer token for the page and everything about calls, for clients that are not on"
            " this machine. Take 20 characters or more.",
            secret=True,
        ),
        # Twilio's limit for the stricter voices (warning 13521).
        Setting(
            "STS_SAY_NOTICE",
            Annotated[str, msgspec.Meta(max_length=3000)],
            "a sentence of at most 3000 characters",
            "What Twilio says to the caller before the stream begins. With more than 200"
            " characters the agent is not dialled ahead.",
        ),
        Setting("STS_LOG", LogFormat, "console or json", "How log lines look.", default="console"),
        Setting(
            "STS_LOG_LEVEL",
            LogLevel,
            "debug, info, warning or error",
            "The least level that is logged.",
            default="info",
        ),
        Setting(
            "STS_LOG_TRANSCRIPTS",
            bool,
            SWITCH,
            "`1` logs what is said and keyed in, and what functions are given and return, at level"
            " debug.",
            default="0",
        ),
        Setting(
            "STS_TRACES",
            TracesOf,
            "none, calls or words",
            "`calls` sends a trace of each call to where OpenTelemetry's own variables say, see"
            " [metrics.md](metrics.md#traces). `words`: with what is said, and who calls whom.",
            default="none",
        ),
        Setting(
            "STS_DATABASE_URL",
            str,
            "sqlite:///PATH, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE or none",
            "Where calls are kept, see [records.md](records.md). A path is seen from"
            " `sts-trio.toml`, or from the working directory where there is none. `none`: nothing"
            " is kept.",
            default="sqlite:///sts-trio.db",
            secret=True,
        ),
        Setting(
            "STS_SPOOL",
            str,
            "a directory",
            "Where rows wait for the database. Not set: `sts-trio.spool`, beside the database's"
            " file or `sts-trio.toml`.",
        ),
        Setting(
            "STS_PROCESS_NAME",
            Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9-]{1,63}\Z")],
            "up to 63 letters, digits and -",
            "What this process is called where several share a database, and in the addresses that"
            " Twilio is given for its streams, `/twilio/at/NAME/…`: no two may have one name. Not"
            " set: host name and port.",
        ),
        # Ten years; who needs more keeps them for ever.
        Setting(
            "STS_KEEP_DAYS",
            Annotated[float, msgspec.Meta(ge=0, le=3653)],
            "days from 0 to 3653",
            "Records of calls that began longer ago are deleted. `0`: never.",
            default="30",
        ),
        Setting(
            "STS_KEEP_WORDS",
            bool,
            SWITCH,
            "`0`: what was said, and what functions were given and gave, is deleted when the call"
            " ends.",
            default="1",
        ),
        Setting(
            "STS_REDACT",
            bool,
            SWITCH,
            "`1` keeps a keyed hash of a number and its last two digits instead of the number."
            " Needs `STS_REDACT_KEY`.",
            default="0",
        ),
        Setting(
            "STS_REDACT_KEY",
            Annotated[str, msgspec.Meta(pattern=r"^[!-~]{32,}\Z")],
            "32 or more visible ASCII characters without spaces",
            "The key of these hashes. With another one no caller is known again.",
            secret=True,
        ),
        Setting(
            "STS_RECORD",
            bool,
            SWITCH,
            "`1` records both sides of each call, see [records.md](records.md#recordings).",
            default="0",
        ),
        Setting(
            "STS_RECORDINGS",
            str,
            "a directory",
            "Where recordings are. Not set: `sts-trio.recordings`, beside the database's file or"
            " `sts-trio.toml`.",
        ),
        Setting(
            "STS_FLIGHT",
            str | int,
            "faults, all or 0",
            "Of which calls a flight is kept, to be had again by `sts-trio replay`: of those that"
            " ended by a fault of the agent's or of ours, of all, or of none. See"
            " [replay.md](replay.md). Not set: `0` where `STS_DATABASE_URL` is `none`.",
            default="faults",
        ),
        Setting(
            "STS_FLIGHTS",
            str,
            "a directory",
            "Where flights are. Not set: `sts-trio.flights`, beside the database's file or"
            " `sts-trio.toml`.",
        ),
        Setting(
            "STS_WEBHOOK_URL",
            str,
            "a URL like https://example.com/calls",
            "Where each ended call is told, see [records.md](records.md#telling-of-ended-calls)."
            " Needs `STS_WEBHOOK_SECRET`.",
            secret=True,
        ),
        Setting(
            "STS_WEBHOOK_SECRET",
            str | list[str],
            "whsec_ and the Base64 of 24 to 64 bytes, several separated by commas",
            "What it is signed with. With several, each makes a signature.",
            secret=True,
        ),
        Setting(
            "STS_WEBHOOK_PRIVATE",
            bool,
            SWITCH,
            "`1`: that URL may lead into a private network, also by plain http.",
            default="0",
        ),
        Setting(
            "STS_ASK_AFTER_SECONDS",
            Seconds,
            SECONDS,
            "How long both sides may be silent until the agent asks whether somebody is there. `0`:"
            " it never asks.",
            default="30",
        ),
        Setting(
            "STS_HANG_UP_AFTER_SECONDS",
            Seconds,
            SECONDS,
            "How much longer, until the agent says goodbye and the call ends. `0`: it never does.",
            default="30",
        ),
        Setting(
            "STS_LONGEST_CALL_SECONDS",
            Seconds,
            SECONDS,
            "The longest call. The agent warns the caller a minute before. `0`: no limit.",
            default="7200",
        ),
        Setting(
            "STS_ANSWER_WITHIN_SECONDS",
            Seconds,
            SECONDS,
            "How long an answer that the agent owes may leave the caller in silence. Then they"
            " hear “One moment, please”, and after three times that a fresh session is asked. `0`:"
            " for ever.",
            default="5",
        ),
        # A call may last 24 hours at most.
        Setting(
            "STS_DRAIN_SECONDS",
            Seconds,
            SECONDS,
            "How long `sts-trio serve` lets calls finish after SIGTERM. Who talks on is told that"
            " the time is up, which takes up to 10 s.",
            default="30",
        ),
        Setting(
            "STS_RESTARTS",
            bool,
            SWITCH,
            "`1`: a supervisor starts the server again within seconds whenever it has ended, as"
            " systemd does with `Restart=always`. Calls are then kept for the next start, if there"
            " is nobody else to go on with them; Twilio asks for them for 15 s.",
            default="0",
        ),
        # The name that platforms for containers tell it by.
        Setting(
            "PORT",
            Annotated[int, msgspec.Meta(ge=0, le=65535)],
            "a whole number from 0 to 65535",
            "Where `sts-trio serve` listens without `--port`, and where the other commands look for"
            " it without `--url`. What runs in a container takes `--host 0.0.0.0` as well.",
            default="5000",
        ),
    )
}
