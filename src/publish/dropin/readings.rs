//! The core series of one node as values: read once when the node answers, written at every encoding.

use std::sync::Arc;

use super::{CORE, ServerView};
use crate::publish::table::{Sink, Value};

/// What the rows of [`CORE`] read of a node in one round. Without the text of `INFO`, whose parsing would be most of
/// the cost of a scrape of the fleet.
#[derive(Debug, Clone)]
pub struct Readings(Arc<Values>);

#[derive(Debug)]
struct Values {
    /// By row; what has no value or labels of its own is not a number. Side by side: one row of a thousand nodes is a
    /// thousand places in memory, and the next row should find them near.
    plain: [f64; CORE.len()],
    labelled: Box<[Labelled]>,
}

#[derive(Debug)]
struct Labelled {
    row: usize,
    labels: Box<[Box<str>]>,
    value: f64,
}

impl Default for Readings {
    fn default() -> Self {
        Self(Arc::new(Values { plain: [f64::NAN; CORE.len()], labelled: Box::default() }))
    }
}

impl Readings {
    /// Reads the core rows.
    #[must_use]
    pub fn of(server: &ServerView<'_>) -> Self {
        let (mut plain, mut labelled) = ([f64::NAN; CORE.len()], Vec::new());
        for (row, source) in CORE.iter().enumerate() {
            source.read(
                server,
                &mut Sink(&mut |labels, value| {
                    let Value::Number(value) = value else {
                        debug_assert!(false, "no core family is a distribution");
                        return;
                    };
                    if labels.is_empty() {
                        plain[row] = value;
                    } else {
                        let labels = labels.iter().map(|label| Box::from(*label)).collect();
                        labelled.push(Labelled { row, labels, value });
                    }
                }),
            );
        }
        Self(Arc::new(Values { plain, labelled: labelled.into() }))
    }

    /// Puts the series of one row of [`CORE`] into the sink.
    pub fn read(&self, row: usize, out: &mut Sink<'_>) {
        let Values { plain, labelled } = &*self.0;
        if CORE[row].family.labels.is_empty() {
            // Sinks take no value that is not finite.
            out.labelled(&[], plain[row]);
            return;
        }
        for reading in labelled.iter().filter(|reading| reading.row == row) {
            let labels: Vec<&str> = reading.labels.iter().map(|label| &**label).collect();
            out.labelled(&labels, reading.value);
        }
    }
}
