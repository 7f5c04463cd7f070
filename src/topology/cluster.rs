//! What a node of a Redis Cluster says of its cluster: `CLUSTER INFO`, whose lines have the form of `INFO`.

use crate::parse::Info;

/// One node's view of its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// `cluster_state` is `ok`.
    pub state_ok: bool,
    /// `cluster_slots_ok`.
    pub slots_ok: Option<u64>,
    /// `cluster_slots_pfail`: of nodes that some call down.
    pub slots_pfail: Option<u64>,
    /// `cluster_slots_fail`: of nodes that the cluster calls down.
    pub slots_fail: Option<u64>,
    /// `cluster_known_nodes`.
    pub known_nodes: Option<u64>,
    /// `cluster_size`: masters with slots.
    pub size: Option<u64>,
    /// `cluster_current_epoch`: grows with every failover and every change of slots.
    pub current_epoch: Option<u64>,
}

impl ClusterInfo {
    /// Reads them from a text that may hold much else.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let at = text.find("cluster_state:")?;
        Self::read(&Info::parse(&text[at..]))
    }

    /// Reads the lines; `None` where there are none of a cluster.
    #[must_use]
    pub fn read(info: &Info<'_>) -> Option<Self> {
        Some(Self {
            state_ok: info.text("cluster_state")? == "ok",
            slots_ok: info.counter("cluster_slots_ok"),
            slots_pfail: info.counter("cluster_slots_pfail"),
            slots_fail: info.counter("cluster_slots_fail"),
            known_nodes: info.counter("cluster_known_nodes"),
            size: info.counter("cluster_size"),
            current_epoch: info.counter("cluster_current_epoch"),
        })
    }

    /// The worse of two views, field by field; the larger of counts and epochs.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let fewer = |a: Option<u64>, b: Option<u64>| a.zip(b).map_or(a.or(b), |(a, b)| Some(a.min(b)));
        Self {
            state_ok: self.state_ok && other.state_ok,
            slots_ok: fewer(self.slots_ok, other.slots_ok),
            slots_pfail: self.slots_pfail.max(other.slots_pfail),
            slots_fail: self.slots_fail.max(other.slots_fail),
            known_nodes: self.known_nodes.max(other.known_nodes),
            size: self.size.max(other.size),
            current_epoch: self.current_epoch.max(other.current_epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_as_well_as_its_worst_view() {
        let ok = "cluster_state:ok\ncluster_slots_ok:16384\ncluster_slots_fail:0\ncluster_current_epoch:6\n";
        let ok = ClusterInfo::read(&Info::parse(ok)).unwrap();
        let bad = "cluster_state:fail\ncluster_slots_ok:10923\ncluster_slots_fail:5461\ncluster_current_epoch:5\n";
        let bad = ClusterInfo::read(&Info::parse(bad)).unwrap();
        let worse = ok.worse(bad);
        assert_eq!((worse.state_ok, worse.slots_ok, worse.slots_fail), (false, Some(10_923), Some(5_461)));
        assert_eq!(worse.current_epoch, Some(6));
        assert_eq!(ClusterInfo::read(&Info::parse("cluster_enabled:1\n")), None);
    }
}
