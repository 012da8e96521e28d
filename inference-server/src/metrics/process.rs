//! CPU, memory, threads and descriptors of this process, as metrics.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tidewright_contract::metrics as names;

/// CPU, memory, threads and descriptors of this process, read when asked.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let metric = ConstCounter::<f64>::new(seconds);
            let name = names::PROCESS_CPU.registered_name();
            metric.encode(encoder.encode_descriptor(name, names::PROCESS_CPU.help, None, metric.metric_type())?)?;
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (metric, value) in [
            (
                &names::PROCESS_RESIDENT_MEMORY,
                number(&status, "VmRSS:").and_then(|kibibytes| kibibytes.checked_mul(1024)),
            ),
            (&names::PROCESS_OPEN_FDS, open_fds()),
            (&names::PROCESS_THREADS, number(&status, "Threads:")),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::<i64>::new(value);
                gauge.encode(encoder.encode_descriptor(
                    metric.registered_name(),
                    metric.help,
                    None,
                    gauge.metric_type(),
                )?)?;
            }
        }
        Ok(())
    }
}

/// User and system time; fields 14 and 15 of `/proc/self/stat`, in ticks of 1/100 s (USER_HZ, fixed on the platforms that we build for).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / 100.0)
}

/// The number after a name in `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Without the one that the look itself takes.
fn open_fds() -> Option<i64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count).ok()?.checked_sub(1)
}
