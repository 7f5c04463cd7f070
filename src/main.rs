//! The program: a command line, and the library behind it.

use std::process::ExitCode;

use cache_storm_exporter::{app, cli, logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refusal) => {
            refusal.print();
            return refusal.status().into();
        }
    };
    logging::init(command.common().log_format);
    // Fails only if there is a provider already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    app::run(command).into()
}
