//! What the exporter says of itself: registered once, updated where things happen.

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};

use crate::publish::table::Family;
use crate::publish::table::exporter::{BUILD_INFO, RELOAD_SUCCESSFUL, RELOAD_TIMESTAMP};

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
        self.registry.gather()
    }
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}
