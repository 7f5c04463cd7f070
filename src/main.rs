//! temporary
use cache_storm_exporter::{detect::settings::Settings, replay::Recording};
fn main() {
    let mut s = Settings::default();
    let mut it = std::env::args().skip(1);
    s.timing.time_scale = it.next().unwrap().parse().unwrap();
    for f in it {
        Recording::open(f.as_ref()).unwrap().run(s.clone(), &mut std::io::stdout().lock()).unwrap();
    }
}
