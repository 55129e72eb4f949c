//! `pf-ctl`.

/// The whole program.
pub fn main() -> std::process::ExitCode {
    crate::error::Exit::Failed.into()
}
