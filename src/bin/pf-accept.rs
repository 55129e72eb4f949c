//! `pf-accept`: see pf-accept(1).
fn main() -> std::process::ExitCode {
    prefork::cmd::accept::main()
}
