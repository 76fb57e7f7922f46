//! The one table of settings. To add a setting, add a row here and read it in `check.rs`.

use std::time::Duration;

use super::value::Kind;

pub(crate) use super::setting::{Effect, PREFIX, Setting};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

const fn ms(from: u64, to: u64) -> Kind {
    Kind::Duration(Duration::from_millis(from), Duration::from_millis(to))
}

/// One without a default.
const fn text(key: &'static str, doc: &'static str) -> Setting {
    Setting::new(key, Kind::Text, "", doc)
}

const HOUR: u64 = 3_600_000;
const CENTURY: u64 = 876_000 * HOUR;

/// Every setting, in the order in which they are shown.
pub(crate) static SETTINGS: &[Setting] = &[
    Setting::new(
        "server.address",
        Kind::Host,
        "",
        "Address of the API. Unset: `::`, all interfaces with IPv6 and IPv4, when API keys are configured, \
         else 127.0.0.1.",
    )
    .aliases(&["ADDRESS"])
    .flag("--addr"),
    Setting::new("server.port", Kind::Integer(0, 65535), "8080", "Port of the API. 0 lets the system choose one.")
        .aliases(&["PORT"])
        .flag("--addr"),
    Setting::new(
        "server.management_address",
        Kind::HostPort,
        "",
        "Where `/metrics`, `/healthz` and `/readyz` are served without a key. Unset: nowhere.",
    ),
    Setting::new("server.db_path", Kind::Text, "./database", "The data directory.").aliases(&["DB_PATH"]).flag("--db"),
    Setting::new(
        "server.max_payload_size",
        Kind::Size(KIB, 64 * MIB),
        "100KiB",
        "The largest request body; above it: 413.",
    )
    .aliases(&["MAX_PAYLOAD_SIZE"]),
    Setting::new(
        "server.max_connections",
        Kind::Integer(1, 1_000_000),
        "10000",
        "Connections beyond this wait until others close. Fewer if the limit of open files allows no more: \
         `progressdb_http_connections_limit`.",
    ),
    Setting::new(
        "server.max_body_memory",
        Kind::Size(KIB, TIB),
        "64MiB",
        "Request bodies in memory at one time, all together; at least `server.max_payload_size`.",
    ),
    Setting::new(
        "server.max_reply_memory",
        Kind::Size(MIB, TIB),
        "64MiB",
        "Responses that clients have not received yet, all together; above it reads are refused with 503.",
    ),
    Setting::new(
        "server.timeouts.header",
        ms(100, HOUR),
        "10s",
        "From the first byte of a request to the end of its headers.",
    ),
    Setting::new("server.timeouts.body", ms(100, HOUR), "10s", "For the whole request body."),
    Setting::new(
        "server.timeouts.reply",
        ms(100, HOUR),
        "60s",
        "For a whole response of more than 4 KiB; a client that takes longer is disconnected.",
    ),
    Setting::new(
        "server.timeouts.idle",
        ms(100, HOUR),
        "75s",
        "Between two requests of a connection, and between two pieces of a response.",
    ),
    Setting::new(
        "server.cors.allowed_origins",
        Kind::Texts,
        "",
        "Origins that browsers may call from; `*` allows all. Empty: no CORS.",
    )
    .aliases(&["CORS_ORIGINS"]),
    Setting::new(
        "server.rate_limit.rps",
        Kind::Number(0.0, 1e6),
        "0",
        "Requests a second for each API key and user. 0: unlimited.",
    )
    .aliases(&["RATE_RPS"]),
    Setting::new(
        "server.rate_limit.burst",
        Kind::Integer(0, 1_000_000),
        "0",
        "Requests at once. 0: as many as a second allows.",
    )
    .aliases(&["RATE_BURST"]),
    Setting::new(
        "server.ip_whitelist",
        Kind::Addresses,
        "",
        "Peers that may connect, health probes included. Empty: all.",
    )
    .aliases(&["IP_WHITELIST"]),
    Setting::new(
        "server.api_keys.backend",
        Kind::Secrets,
        "",
        "Keys that may call `/backend` and `/frontend` as any user.",
    )
    .aliases(&["API_BACKEND_KEYS"]),
    text("server.api_keys.backend_file", "A file with more of them, one a line; blank lines and `#` comments are skipped. Read again when it \
         changes.")
    .aliases(&["API_BACKEND_KEYS_FILE"]),
    Setting::new(
        "server.api_keys.frontend",
        Kind::Secrets,
        "",
        "Keys that may call `/frontend` with a signed user id.",
    )
    .aliases(&["API_FRONTEND_KEYS"]),
    text("server.api_keys.frontend_file", "A file with more of them.")
        .aliases(&["API_FRONTEND_KEYS_FILE"]),
    Setting::new("server.api_keys.admin", Kind::Secrets, "", "Keys that may call `/admin`, and nothing else.")
        .aliases(&["API_ADMIN_KEYS"]),
    text("server.api_keys.admin_file", "A file with more of them.")
        .aliases(&["API_ADMIN_KEYS_FILE"]),
    Setting::new(
        "server.api_keys.signing",
        Kind::Secrets,
        "",
        "Secrets that sign user ids: the first one signs, all verify. Needed when there are frontend keys.",
    )
    .aliases(&["API_SIGNING_KEYS"]),
    text("server.api_keys.signing_file", "A file with more of them.")
        .aliases(&["API_SIGNING_KEYS_FILE"]),
    Setting::new(
        "drain.hold",
        ms(0, HOUR),
        "0s",
        "After SIGTERM, serve this long as not ready, so that load balancers notice. Containers set it.",
    ),
    Setting::new("drain.timeout", ms(0, HOUR), "30s", "Then requests in flight have this long to finish."),
    Setting::new(
        "storage.reserve",
        Kind::Size(MIB, TIB),
        "256MiB",
        "Writes are refused with 507 when less disk than this is free.",
    ),
    Setting::new("storage.memory", Kind::Size(16 * MIB, TIB), "256MiB", "Block cache and memtables together."),
    Setting::new(
        "storage.allow_volatile_fs",
        Kind::Bool,
        "false",
        "Accept tmpfs, ramfs, NFS, SMB, FUSE, 9p and the like, where acknowledged writes may be lost. For \
         tests.",
    )
    .flag("--allow-volatile-fs"),
    Setting::new(
        "storage.max_clock_jump",
        ms(1000, CENTURY),
        "24h",
        "A step of the clock further ahead than this is followed only if systemd-timesyncd confirms it, if it \
         lasts for a minute and ends less than 400 days past the newest row, or if an administrator accepts \
         it; until then writes are refused with 503 and nothing is removed.",
    ),
    Setting::new(
        "storage.cassandra.contact_points",
        Kind::Texts,
        "",
        "Nodes of Cassandra or ScyllaDB, each `host` or `host:port`; the others are learned from them. Set: the store lies \
         there, any number of servers share it, and `server.db_path` is not used.",
    ),
    text("storage.cassandra.datacenter", "The data centre whose nodes are used. Unset: any; set it where there are several."),
    Setting::new("storage.cassandra.keyspace", Kind::Text, "progressdb", "The keyspace of the tables."),
    Setting::new(
        "storage.cassandra.replication_factor",
        Kind::Integer(1, 99),
        "3",
        "How many nodes keep each row. Read by `progressdb schema apply` when it makes the keyspace, and by \
         nothing else.",
    ),
    text("storage.cassandra.credentials.username", "The role to log in as."),
    text("storage.cassandra.credentials.username_file", "A file with it, read at each connection."),
    Setting::new("storage.cassandra.credentials.password", Kind::Secret, "", "Its password."),
    text("storage.cassandra.credentials.password_file", "A file with it, read at each connection."),
    Setting::new(
        "storage.cassandra.tls.enabled",
        Kind::Bool,
        "false",
        "Encrypt the connections. A file in this section turns it on as well.",
    ),
    text("storage.cassandra.tls.ca_file", "PEM certificates that nodes are trusted by, in place of the system's."),
    text("storage.cassandra.tls.certificate_file", "The certificate of this server, as PEM, where nodes ask for one."),
    text("storage.cassandra.tls.key_file", "The key of that certificate, as PEM."),
    Setting::new(
        "format.finalize",
        Kind::Choice(&["auto", "manual"]),
        "auto",
        "What raises a store of an older format, after which older versions refuse it: `auto`, the first start of a version \
         that writes a newer one; `manual`, `progressdb migrate --finalize`. A checkpoint is made before.",
    ),
    Setting::new("retention.enabled", Kind::Bool, "false", "Remove deleted threads and messages for good."),
    Setting::new(
        "retention.cron",
        Kind::Cron,
        "0 2 * * *",
        "When it runs, in UTC: 5 to 7 fields, or an alias such as `@daily`.",
    ),
    Setting::new("retention.mttl", ms(1, CENTURY), "720h", "How long a deleted message is kept."),
    Setting::new("retention.tttl", ms(1, CENTURY), "720h", "How long a deleted thread is kept."),
    text("backup.root", "The directory for backups that `POST /admin/backup` makes, an absolute path outside `server.db_path`. Unset: it makes \
         none."),
    Setting::new(
        "backup.schedule",
        Kind::Cron,
        "",
        "When the server makes a backup by itself, in UTC: 5 to 7 fields, or an alias such as `@daily`. \
         Unset: never.",
    ),
    text("backup.destination", "Where it goes: a directory, best on another disk, or `s3://bucket/prefix`, `gs://…`, `az://container/…`, \
         `file:///directory`."),
    Setting::new("backup.keep", Kind::Integer(0, 100_000), "0", "Backups that stay there, the newest ones. 0: all."),
    Setting::new("backup.max_age", ms(0, CENTURY), "0s", "Older ones are removed. 0: none for its age."),
    Setting::new(
        "backup.verify",
        Kind::Choice(&["after", "never"]),
        "after",
        "Whether a backup in an object store is read again after it was sent. Those in a directory always \
         are.",
    ),
    Setting::new("backup.rate_limit", Kind::Size(0, TIB), "0", "Bytes a second that are read and sent. 0: unlimited."),
    Setting::new(
        "backup.endpoint",
        Kind::Url,
        "",
        "Address of the object store, in place of the cloud's own; for Azure with the account, as in \
         `https://host/account`.",
    ),
    text("backup.region", "S3: region of the bucket. Also `AWS_REGION`; else `us-east-1`."),
    Setting::new("backup.allow_http", Kind::Bool, "false", "Reach the object store without TLS. For tests."),
    text("backup.ca_file", "PEM certificates that the object store is trusted by, in place of the system's."),
    Setting::new("backup.timeout", ms(100, HOUR), "1m", "For one try of one request to the object store; there are up to 6."),
    Setting::new(
        "logging.level",
        Kind::Choice(&["trace", "debug", "info", "warn", "error"]),
        "info",
        "The least important level that is logged. `RUST_LOG` overrides it; audit lines are always written. SIGHUP reads it \
         again.",
    )
    .aliases(&["LOG_LEVEL"]),
    Setting::new(
        "logging.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "One line an event, for people or for machines.",
    )
    .aliases(&["LOG_FORMAT"]),
    Setting::new(
        "telemetry.otlp_endpoint",
        Kind::Url,
        "",
        "The OpenTelemetry collector that traces are sent to, by OTLP over HTTP, such as `http://collector:4318`; `/v1/traces` \
         is added. Unset: nowhere. Also `OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    .shared(&["OTEL_EXPORTER_OTLP_ENDPOINT"]),
    Setting::new(
        "telemetry.otlp_traces_endpoint",
        Kind::Url,
        "",
        "The same as a whole URL, to which nothing is added. Also `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.",
    )
    .shared(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]),
    text("telemetry.otlp_ca_file", "PEM certificates that a collector behind `https` is trusted by, in place of the system's. Also \
         `OTEL_EXPORTER_OTLP_CERTIFICATE`, and this and the next two with `TRACES_` in front of `CERTIFICATE` or `CLIENT_`.")
    .shared(&["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]),
    text("telemetry.otlp_client_certificate_file", "The certificate of this server for the collector, as PEM. Also \
         `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`.")
    .shared(&["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"]),
    text("telemetry.otlp_client_key_file", "The key of that certificate, as PEM. Also `OTEL_EXPORTER_OTLP_CLIENT_KEY`.")
    .shared(&["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"]),
    Setting::new("encryption.enabled", Kind::Bool, "false", "Seal what users write, under keys that a KMS wraps."),
    Setting::no_effect("encryption.fields", "Fields to encrypt; here whole values are."),
    Setting::new(
        "encryption.epoch_age",
        ms(1000, CENTURY),
        "2160h",
        "A new epoch key is made when the newest one is this old.",
    ),
    Setting::new("encryption.key_cache", Kind::Integer(1, 100_000_000), "20000", "Data keys kept in memory."),
    Setting::new(
        "encryption.rewrap_rate",
        Kind::Integer(1, 1_000_000),
        "1000",
        "Keys a second that are wrapped anew in the background after an epoch ended.",
    ),
    Setting::new(
        "encryption.erasure_horizon",
        ms(0, CENTURY),
        "24h",
        "How long logs and backups may still hold a key that was erased; receipts name it.",
    ),
    Setting::new(
        "encryption.kms.provider",
        Kind::Choice(&["local", "aws", "vault", "http"]),
        "",
        "Who wraps the keys: master keys of our own, AWS KMS, Vault or OpenBao transit, a `prgkms` service. \
         Unset: by the mode, else `local`.",
    ),
    Setting::new(
        "encryption.kms.mode",
        Kind::Choice(&["embedded", "external"]),
        "",
        "As Go 0.2 named the provider: `embedded` is `local`, `external` is `http`.",
    )
    .aliases(&["KMS_MODE"]),
    text("encryption.kms.endpoint", "Address of Vault (needed) or of the `http` service (unset: `127.0.0.1:6820`); for AWS, one to use \
         instead of the region's.")
    .aliases(&["KMS_ENDPOINT"]),
    text("encryption.kms.key_id", "Id, ARN or alias of the AWS key (needed), name of the key at Vault or the `http` service (unset: \
         `progressdb`)."),
    text("encryption.kms.master_key_file", "`local`: a file of 32 bytes or 64 hexadecimal digits that only the owner, or its group, can read.")
    .aliases(&["KMS_MASTER_KEY_FILE"]),
    Setting::new("encryption.kms.master_key_hex", Kind::Secret, "", "`local`: the same inline, as 64 hexadecimal digits.")
        .aliases(&["KMS_MASTER_KEY_HEX"]),
    Setting::new(
        "encryption.kms.escrow_key_files",
        Kind::Texts,
        "",
        "`local`: files of more master keys, each of which opens everything alone.",
    ),
    Setting::no_effect("encryption.kms.db_path", "Directory of the embedded KMS.")
        .aliases(&["KMS_DATA_DIR", "KMS_DB_PATH"]),
    text("encryption.kms.ca_file", "`vault`, `http`: PEM certificates to trust in place of the system's."),
    Setting::new("encryption.kms.token", Kind::Secret, "", "`vault` with token auth, `http`: the token."),
    text("encryption.kms.token_file", "A file with it, read again whenever it changes."),
    text("encryption.kms.aws.region", "Unset: that of the key's ARN, else as the SDK finds it."),
    text("encryption.kms.aws.credentials_file", "Shared credentials, read again when they change. Unset: the SDK's default chain."),
    text("encryption.kms.aws.profile", "The profile in that file, or in the SDK's own files."),
    Setting::new("encryption.kms.vault.mount", Kind::Text, "transit", "Where the transit engine is mounted."),
    text("encryption.kms.vault.namespace", "Where Vault has namespaces."),
    Setting::new(
        "encryption.kms.vault.auth",
        Kind::Choice(&["token", "approle", "kubernetes"]),
        "token",
        "How to log in.",
    ),
    text("encryption.kms.vault.auth_mount", "Where that method is mounted. Unset: at its own name."),
    text("encryption.kms.vault.role", "`kubernetes`: the role."),
    text("encryption.kms.vault.role_id", "`approle`: the role id."),
    Setting::new("encryption.kms.vault.secret_id", Kind::Secret, "", "`approle`: the secret id."),
    text("encryption.kms.vault.secret_id_file", "A file with it, read at each login."),
    Setting::new(
        "encryption.kms.vault.jwt_file",
        Kind::Text,
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "`kubernetes`: the token of the service account, read at each login.",
    ),
    Setting::new("encryption.kms.timeout", ms(100, 60_000), "5s", "For one try of one call; there are up to 3."),
    Setting::new(
        "encryption.kms.grace",
        ms(0, CENTURY),
        "1h",
        "While the KMS fails, keys in memory open values this long after its last success.",
    ),
    Setting::new(
        "encryption.kms.seal_grace",
        ms(0, CENTURY),
        "3m",
        "And seal values this long; at most `encryption.kms.grace`.",
    ),
    Setting::new("encryption.kms.probe_interval", ms(100, HOUR), "60s", "How often the KMS is probed."),
    Setting::new("encryption.kms.probe_interval_failing", ms(100, HOUR), "10s", "How often while it fails."),
    Setting::no_effect("ingest.intake.queue_capacity", "Queue before the store.").aliases(&["INTAKE_QUEUE_CAPACITY"]),
    Setting::no_effect("ingest.intake.shutdown_poll_interval", "Queue before the store.")
        .aliases(&["INTAKE_SHUTDOWN_POLL_INTERVAL"]),
    Setting::no_effect("ingest.intake.wal.enabled", "Every write is durable here.").aliases(&["INTAKE_WAL_ENABLED"]),
    Setting::no_effect("ingest.intake.wal.segment_size", "Log of the queue.").aliases(&["INTAKE_WAL_SEGMENT_SIZE"]),
    Setting::no_effect("ingest.intake.recovery.enabled", "Recovery always runs here.")
        .aliases(&["INTAKE_RECOVERY_ENABLED"]),
    Setting::no_effect("ingest.intake.recovery.temp_index_enabled", "Recovery of the queue.")
        .aliases(&["INTAKE_RECOVERY_TEMP_IDX_ENABLED", "INTAKE_RECOVERY_TEMP_INDEX_ENABLED"]),
    Setting::no_effect("ingest.intake.recovery.temp_idx_enabled", "Recovery of the queue, as the sample spelled it."),
    Setting::no_effect("ingest.compute.worker_multiplier", "Workers before the store.")
        .aliases(&["COMPUTE_WORKER_MULTIPLIER"]),
    Setting::no_effect("ingest.compute.worker_count", "Workers before the store.").aliases(&["COMPUTE_WORKER_COUNT"]),
    Setting::no_effect("ingest.compute.buffer_capacity", "Workers before the store.")
        .aliases(&["COMPUTE_BUFFER_CAPACITY"]),
    Setting::no_effect("ingest.apply.batch_count", "Batches into the store.").aliases(&["APPLY_BATCH_COUNT"]),
    Setting::no_effect("ingest.apply.batch_timeout", "Batches into the store.").aliases(&["APPLY_BATCH_TIMEOUT"]),
    Setting::no_effect("telemetry.buffer_size", "Trace files."),
    Setting::no_effect("telemetry.file_max_size", "Trace files."),
    Setting::no_effect("telemetry.flush_interval", "Trace files."),
    Setting::no_effect("telemetry.queue_capacity", "Trace files."),
    Setting::no_effect("sensor.poll_interval", "Hardware sensor."),
    Setting::no_effect("sensor.disk_high_pct", "Hardware sensor."),
    Setting::no_effect("sensor.mem_high_pct", "Hardware sensor."),
    Setting::no_effect("sensor.cpu_high_pct", "Hardware sensor."),
    Setting::no_effect("sensor.recovery_window", "Hardware sensor."),
];
