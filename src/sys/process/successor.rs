//! What an upgrade executes: the program and its arguments, made from the command line,
//! environment, directory and limits that this master was started with.
//!
//! All of these are kept as they were given and resolved when an upgrade asks for them. So a
//! replaced program and a switched `current` symlink are followed (U16, U17).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::program;
use crate::error::{Error, Exit, Result};
use crate::wire::environment::Environment;
use crate::wire::handover::{CHECK_FD, FAILED, STATE_FD};
use crate::wire::peer::LINK_FD;

/// The shell that runs `--reexec`.
const SHELL: &str = "/bin/sh";

/// The kernel's link to the program that this process runs.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Variables that one image of the master sets for the next, or one master for another. They do not
/// belong to the environment of the start.
const BETWEEN_IMAGES: [&str; 4] = [STATE_FD, CHECK_FD, FAILED, LINK_FD];

/// Which image an upgrade executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The one that the command line names now, [`Origin::successor`].
    Next,
    /// The one that runs, [`Origin::same_image`].
    Same,
}

/// How this master was started.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its command line, `argv[0]` included.
    pub argv: Vec<OsString>,
    /// `--reexec`: what sh runs instead.
    pub reexec: Option<OsString>,
    /// Its environment, without the variables that an image of the master hands to the next.
    pub environment: Environment,
    /// Where it was started, as `$PWD` named it (U17).
    pub dir: PathBuf,
    /// RLIMIT_NOFILE as it was given, soft and hard; None: never changed. See
    /// [`crate::sys::machine::limits::restore_nofile`].
    pub nofile: Option<(u64, u64)>,
}

/// What is to be executed, resolved now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The program, absolute: its directory resolved, its last component as given.
    pub program: PathBuf,
    /// The arguments; the first is the name that the program is called by.
    pub argv: Vec<OsString>,
    /// The `--reexec` line, if this runs it.
    pub line: Option<OsString>,
}

impl fmt::Display for Successor {
    /// The program, or the line of `--reexec`: what the caller of the upgrade knows it by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.line {
            Some(line) => write!(f, "--reexec '{}'", line.to_string_lossy()),
            None => write!(f, "{}", self.program.display()),
        }
    }
}

impl Origin {
    /// How this process was started. `environment`: all of its variables; `dir`: see
    /// [`program::start_dir`].
    pub fn of_this_process(
        reexec: Option<OsString>,
        mut environment: Environment,
        dir: PathBuf,
    ) -> Self {
        environment.retain(|name| BETWEEN_IMAGES.iter().all(|ours| name != *ours));
        Origin {
            argv: std::env::args_os().collect(),
            reexec,
            environment,
            dir,
            nofile: None,
        }
    }

    /// What an upgrade executes, in [`Origin::dir`]. Without `--reexec`: the master's own command
    /// line; a program without a slash is looked up in PATH again. With it: sh, to which the own
    /// command line is `"$0"` and `"$@"`.
    ///
    /// # Errors
    /// There is no such program, or it may not be executed: exit 1, and the message names the
    /// program.
    pub fn successor(&self) -> Result<Successor> {
        let own = self.argv.first().filter(|own| !own.is_empty());
        if let Some(line) = &self.reexec {
            let shell = ["sh".into(), "-c".into(), line.clone()];
            return Ok(Successor {
                program: SHELL.into(),
                argv: shell.into_iter().chain(self.argv.clone()).collect(),
                line: Some(line.clone()),
            });
        }
        let own = own.ok_or_else(|| {
            Error::new(
                Exit::Failed,
                "cannot tell what an upgrade executes",
                "this master was started without a name",
            )
            .hint("say it with --reexec")
        })?;
        let path = self.environment.value("PATH");
        let program = program::find(own, &self.dir, path).map_err(|error| {
            let what = format!("successor {}", own.to_string_lossy());
            Error::new(Exit::Failed, what, error)
        })?;
        Ok(Successor {
            program,
            argv: self.argv.clone(),
            line: None,
        })
    }

    /// What an upgrade to this image executes.
    ///
    /// # Errors
    /// As [`Origin::successor`] and [`Origin::same_image`].
    pub fn image(&self, image: Image) -> Result<Successor> {
        match image {
            Image::Next => self.successor(),
            Image::Same => self.same_image(),
        }
    }

    /// The image that runs, with the command line that it has: an upgrade to it deploys nothing.
    ///
    /// So a file that has been put in its place meanwhile is not executed, nor is `--reexec` run.
    /// The running file is known by its inode. Where no path names it any more, it is executed by
    /// the link that the kernel keeps, which works also after it was deleted.
    ///
    /// # Errors
    /// There is no /proc: exit 1.
    pub fn same_image(&self) -> Result<Successor> {
        let failed = |error| {
            let what = "cannot tell which image runs";
            Error::new(Exit::Failed, what, format!("{OWN_IMAGE}: {error}"))
        };
        let running = fs::metadata(OWN_IMAGE).map_err(failed)?;
        let path = self.environment.value("PATH");
        let own = self.argv.first().filter(|own| !own.is_empty());
        let by_name = own.and_then(|own| program::find(own, &self.dir, path).ok());
        let is_running = |path: &PathBuf| {
            let named = fs::metadata(path);
            named.is_ok_and(|it| (it.dev(), it.ino()) == (running.dev(), running.ino()))
        };
        // By the path that it was started by, so that it keeps its name in `ps`.
        let places = by_name.into_iter().chain(fs::read_link(OWN_IMAGE));
        Ok(Successor {
            program: places
                .into_iter()
                .find(is_running)
                .unwrap_or(OWN_IMAGE.into()),
            argv: self.argv.clone(),
            line: None,
        })
    }

    /// Checks that sh can parse `--reexec`; no part of it is run.
    ///
    /// # Errors
    /// What sh says: exit 2. There is no sh: exit 1.
    pub fn check(&self) -> Result<()> {
        let Some(line) = &self.reexec else {
            return self.successor().map(drop);
        };
        let checked = Command::new(SHELL)
            .args([OsStr::new("-n"), OsStr::new("-c"), line])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|error| Error::new(Exit::Failed, format!("cannot run {SHELL}"), error))?;
        if checked.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&checked.stderr);
        let mut wrong = Error::usage(format!("--reexec '{}'", line.to_string_lossy()));
        wrong.why = stderr.trim().to_owned();
        Err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn origin(argv: &[&str], reexec: Option<&str>, dir: &Path, path: &str) -> Origin {
        Origin {
            argv: argv.iter().map(OsString::from).collect(),
            reexec: reexec.map(OsString::from),
            environment: [("PATH", path)].into_iter().collect(),
            dir: dir.to_owned(),
            nofile: None,
        }
    }

    #[test]
    fn u16_a_replaced_symlink_and_a_program_that_is_new_in_path_are_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = fs::canonicalize(dir.path()).expect("real");
        for release in ["one", "two"] {
            fs::create_dir(root.join(release)).expect("dir");
            let program = root.join(release).join("pf-master");
            fs::write(&program, "#!/bin/sh\n").expect("file");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("mode");
        }
        let current = root.join("current");
        let by_path = origin(&["pf-master", "-n", "1"], None, &root, "current:/nowhere");
        let by_name = origin(&["./current/pf-master"], None, &root, "");
        assert!(by_path.successor().is_err());
        for release in ["one", "two"] {
            let _ = fs::remove_file(&current);
            symlink(release, &current).expect("symlink");
            let program = root.join(release).join("pf-master");
            let found = by_path.successor().expect("found");
            assert_eq!(found.program, program);
            assert_eq!(found.argv, ["pf-master", "-n", "1"]);
            assert_eq!(by_name.successor().expect("found").program, program);
        }
        fs::set_permissions(
            root.join("two/pf-master"),
            fs::Permissions::from_mode(0o644),
        )
        .expect("mode");
        let error = by_name.successor().expect_err("not executable");
        assert_eq!(error.exit, Exit::Failed);
        assert!(
            error
                .to_string()
                .starts_with("successor ./current/pf-master: ")
        );
    }

    #[test]
    fn reexec_is_run_by_sh_which_is_told_the_own_command_line() {
        let line = "exec \"$0\" --verbose \"$@\"";
        let origin = origin(&["pf-master", "-n", "1"], Some(line), Path::new("/"), "");
        let successor = origin.successor().expect("sh");
        assert_eq!(successor.program, Path::new(SHELL));
        let argv = ["sh", "-c", line, "pf-master", "-n", "1"];
        assert_eq!(successor.argv, argv);
        origin.check().expect("sh can read it");
    }

    #[test]
    fn the_running_image_is_known_by_its_inode_and_reexec_is_not_run() {
        let own = std::env::current_exe().expect("this test");
        let name = own.to_str().expect("UTF-8");
        let dir = tempfile::tempdir().expect("tempdir");
        let by_name = origin(&[name], Some("exec other"), dir.path(), "");
        let same = by_name.image(Image::Same).expect("it runs");
        assert_eq!((same.program, same.line), (own.clone(), None));
        // A link keeps its name; another program of that name is passed over.
        let link = dir.path().join("link");
        symlink(&own, &link).expect("symlink");
        let by_link = origin(&["./link", "-n"], None, dir.path(), "");
        let same = by_link.same_image().expect("it runs");
        assert_eq!(same.program.file_name(), link.file_name());
        assert_eq!(same.argv, ["./link", "-n"]);
        fs::remove_file(&link).expect("removed");
        symlink("/bin/sh", &link).expect("symlink");
        assert_eq!(by_link.same_image().expect("it runs").program, own);
    }

    #[test]
    fn what_sh_cannot_read_is_wrong_usage() {
        let origin = origin(&["pf-master"], Some("exec 'x"), Path::new("/"), "");
        let error = origin.check().expect_err("unfinished");
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.to_string().starts_with("--reexec 'exec 'x': "));
        assert!(!error.to_string().contains('\n'));
    }
}
