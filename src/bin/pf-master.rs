//! `pf-master`: see pf-master(1).
fn main() -> std::process::ExitCode {
    prefork::cmd::master::main()
}
