//! Logs to stderr and metrics for `/metrics`. Set up once, by `main`.

use std::{io::IsTerminal as _, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt as _};

use crate::config::LogFormat;

/// What is logged without `RUST_LOG`: our own affairs, and of the libraries only what went wrong.
pub const FILTER: &str = "info,hyper=warn,lapin=warn,sqlx=warn,tower_http=warn";
/// What is logged instead by commands that say themselves what they do. A pool complains of every connection that it
/// throws away, some of them at the very end, when the private database stops.
pub const FILTER_QUIET: &str = "warn,sqlx_core::pool=error";

/// How long samples of histograms may wait to be folded.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Upper bounds in seconds of every histogram whose name ends in `_seconds`: fine where commands are (0.3 ms), coarse
/// where rebuilds are.
const BUCKETS_SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in the environment does not parse; a mistake in the configuration.
    #[error("RUST_LOG is not a filter: {0}")]
    Filter(String),
    /// Something else in this process has set up logging.
    #[error("logging is set up already")]
    LoggingTwice,
    /// Something else in this process has set up metrics.
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] BuildError),
}

/// Sends log lines to stderr, so that stdout stays for data; filtered by `RUST_LOG`, or by `default` without it. Text
/// has colours on a terminal, unless `NO_COLOR` is set.
pub fn init_logs(format: LogFormat, default: &str) -> Result<(), TelemetryError> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), default)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init(),
        LogFormat::Text => {
            let colours =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            lines.with_ansi(colours).finish().try_init()
        }
    };
    set.map_err(|_| TelemetryError::LoggingTwice)
}

fn filter(given: Option<&str>, default: &str) -> Result<EnvFilter, TelemetryError> {
    match given.map(str::trim) {
        None | Some("") => Ok(EnvFilter::new(default)),
        Some(given) => EnvFilter::try_new(given).map_err(|error| TelemetryError::Filter(error.to_string())),
    }
}

/// What `/metrics` answers with.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the recorder of this process: from now on `metrics::counter!` and its like count.
    pub fn install() -> Result<Self, TelemetryError> {
        Ok(Self(builder()?.install_recorder()?))
    }

    /// The Prometheus text format (`text/plain; version=0.0.4`).
    pub fn render(&self) -> String {
        // Samples of histograms pile up until they are folded; a scrape is as good a moment as any.
        self.0.run_upkeep();
        self.0.render()
    }

    /// Folds every few seconds what histograms have gathered, until `shutdown`: nobody may be scraping, and samples
    /// would pile up without end.
    pub async fn keep_folded(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(FOLD_EVERY) => self.0.run_upkeep(),
            }
        }
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let of = |given| filter(given, FILTER);
        assert_eq!(of(None).unwrap().to_string().split(',').count(), 5);
        assert_eq!(of(Some(" ")).unwrap().to_string(), of(None).unwrap().to_string());
        assert_eq!(of(Some("jangbu=debug")).unwrap().to_string(), "jangbu=debug");
        assert!(
            of(Some("jangbu=loud"))
                .unwrap_err()
                .to_string()
                .starts_with("RUST_LOG is not a filter")
        );
    }

    #[test]
    fn seconds_are_rendered_as_histograms() {
        let recorder = builder().unwrap().build_recorder();
        let metrics = Metrics(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("jangbu_append_seconds").record(0.000_3);
            metrics::counter!("jangbu_events_total").increment(2);
        });
        let text = metrics.render();
        assert!(
            text.contains("jangbu_append_seconds_bucket{le=\"0.00025\"} 0"),
            "{text}"
        );
        assert!(text.contains("jangbu_append_seconds_bucket{le=\"0.0005\"} 1"), "{text}");
        assert!(text.contains("jangbu_events_total 2"), "{text}");
    }
}
