//! The core series of one node as values: read once when the node answers, written at every encoding.

use super::{CORE, ServerView};
use crate::publish::table::{Sink, Value};

/// What the rows of [`CORE`] read of a node in one round. Without the text of `INFO`, whose parsing would be most of
/// the cost of a scrape of the fleet.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// By row, in the order of [`CORE`].
    readings: std::sync::Arc<[Reading]>,
}

#[derive(Debug)]
struct Reading {
    row: usize,
    /// Values of the family's own labels; empty for one without.
    labels: Box<[Box<str>]>,
    value: f64,
}

impl Readings {
    /// Reads the core rows.
    #[must_use]
    pub fn of(server: &ServerView<'_>) -> Self {
        let mut readings = Vec::with_capacity(CORE.len() + 4);
        for (row, source) in CORE.iter().enumerate() {
            source.read(
                server,
                &mut Sink(&mut |labels, value| {
                    let Value::Number(value) = value else {
                        debug_assert!(false, "no core family is a distribution");
                        return;
                    };
                    readings.push(Reading {
                        row,
                        labels: labels.iter().map(|label| Box::from(*label)).collect(),
                        value,
                    });
                }),
            );
        }
        Self { readings: readings.into() }
    }

    /// Puts the series of one row of [`CORE`] into the sink.
    pub fn read(&self, row: usize, out: &mut Sink<'_>) {
        let from = self.readings.partition_point(|reading| reading.row < row);
        for reading in self.readings[from..].iter().take_while(|reading| reading.row == row) {
            if reading.labels.is_empty() {
                out.labelled(&[], reading.value);
            } else {
                let labels: Vec<&str> = reading.labels.iter().map(|label| &**label).collect();
                out.labelled(&labels, reading.value);
            }
        }
    }
}
