//! What samples of hot keys add to a verdict.

use super::rig::{Rig, node};
use crate::detect::verdict::HotKeySample;
use crate::model::StormType;

/// Without command statistics, only the hot key itself can tell a stampede: what is written to it after misses.
#[test]
fn rebuilds_of_the_hot_key_itself_are_a_stampede() {
    for (write_ratio, expected) in [(None, None), (Some(0.05), None), (Some(0.4), Some("stampede")), (Some(1.0), None)]
    {
        let mut rig = Rig::new(1);
        let server = &mut rig.servers[0];
        (server.sample.set_calls, server.expired_per_second) = (None, Some(20.0));
        rig.run(300.0);
        let server = &mut rig.servers[0];
        server.hit_ratio = 0.5;
        server.hot_key = Some(HotKeySample { share: 0.7, accesses: 1000, write_ratio });
        let verdict = rig.run(60.0);
        let node = node(&verdict, "n00");
        assert_eq!((node.storm_type, node.sub_reason), (Some(StormType::HotKey), expected), "{write_ratio:?}");
    }
}
