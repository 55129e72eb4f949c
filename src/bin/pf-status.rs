//! `pf-status`: see pf-status(1).
fn main() -> std::process::ExitCode {
    prefork::cmd::status::main()
}
