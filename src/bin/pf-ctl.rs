//! `pf-ctl`: see pf-ctl(1).
fn main() -> std::process::ExitCode {
    prefork::cmd::ctl::main()
}
