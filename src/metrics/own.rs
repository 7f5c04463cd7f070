//! What the exporter says of itself: registered once, updated where things happen.

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};
use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};
use rustix::time::{ClockId, clock_gettime};

use crate::publish::table::Family;
use crate::publish::table::exporter::{BUILD_INFO, RELOAD_SUCCESSFUL, RELOAD_TIMESTAMP};

const CPU_SECONDS: &str = "process_cpu_seconds_total";

/// The exporter's own metrics.
#[derive(Debug)]
pub struct OwnMetrics {
    registry: Registry,
    reload_successful: IntGauge,
    reload_timestamp: Gauge,
}

impl OwnMetrics {
    /// Registers them. `loaded_unix`: when the configuration in force was loaded, Unix seconds.
    ///
    /// # Errors
    /// If the library refuses a name or a second registration: a fault of the program.
    pub fn new(loaded_unix: f64) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = IntGaugeVec::new(opts(&BUILD_INFO), BUILD_INFO.labels)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let own = Self {
            registry,
            reload_successful: IntGauge::with_opts(opts(&RELOAD_SUCCESSFUL))?,
            reload_timestamp: Gauge::with_opts(opts(&RELOAD_TIMESTAMP))?,
        };
        own.registry.register(Box::new(build))?;
        own.registry.register(Box::new(own.reload_successful.clone()))?;
        own.registry.register(Box::new(own.reload_timestamp.clone()))?;
        own.registry.register(Box::new(ProcessCollector::for_self()))?;
        own.reload_succeeded(loaded_unix);
        Ok(own)
    }

    /// A configuration was taken at that time, Unix seconds.
    pub fn reload_succeeded(&self, now_unix: f64) {
        self.reload_successful.set(1);
        self.reload_timestamp.set(now_unix);
    }

    /// A configuration was refused; the older one stays in force.
    pub fn reload_failed(&self) {
        self.reload_successful.set(0);
    }

    /// Their values as of now. Reads `/proc`: not for async threads.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        // The collector knows whole seconds only: at a few hundredths of a core, most rates over a minute were 0.
        let cpu = families.iter_mut().find(|family| family.name() == CPU_SECONDS);
        if let Some(metric) = cpu.and_then(|family| family.mut_metric().first_mut()) {
            let mut counter = Counter::default();
            counter.set_value(cpu_seconds());
            metric.set_counter(counter);
        }
        families
    }
}

/// What all threads of the process have used, those that have ended among them.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn cpu_time_has_fractions_of_a_second() {
        let own = OwnMetrics::new(1.0).unwrap();
        let cpu = || {
            let families = own.gather();
            let family = families.iter().find(|family| family.name() == CPU_SECONDS).expect("a family");
            family.get_metric()[0].get_counter().get_value()
        };
        let (first, begun) = (cpu(), Instant::now());
        // Gathering takes time itself.
        let next = std::iter::repeat_with(cpu).find(|next| *next > first || begun.elapsed() > Duration::from_secs(10));
        let step = next.unwrap_or(first) - first;
        assert!(step > 0.0 && step < 0.5, "a step of {step} s");
    }
}
