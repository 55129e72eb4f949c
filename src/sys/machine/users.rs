//! Users and groups, by name or number.

use nix::unistd::{Gid, Group, Uid, User};

use crate::error::{Error, Result};

/// The user that this process acts as.
pub fn own_uid() -> u32 {
    Uid::effective().as_raw()
}

/// The number of a user given by name or number. A number needs no entry in the user database.
pub fn uid(text: &str) -> Result<Uid> {
    match text.parse() {
        Ok(number) => Ok(Uid::from_raw(number)),
        Err(_) => user(text).map(|user| user.uid),
    }
}

/// The number of a group given by name or number.
pub fn gid(text: &str) -> Result<Gid> {
    if let Ok(number) = text.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(Error::system(
            format!("cannot find group '{text}'"),
            "no such group",
        )),
        Err(errno) => Err(Error::system(
            format!("cannot find group '{text}'"),
            errno.desc(),
        )),
    }
}

/// The entry of a user given by name or number; a number without an entry is an error.
pub fn user(text: &str) -> Result<User> {
    let found = match text.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(text),
    };
    match found {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(Error::system(
            format!("cannot find user '{text}'"),
            "no such user",
        )),
        Err(errno) => Err(Error::system(
            format!("cannot find user '{text}'"),
            errno.desc(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(uid("root").map(Uid::as_raw), Ok(0));
        assert_eq!(uid("4242").map(Uid::as_raw), Ok(4242));
        assert_eq!(gid("root").map(Gid::as_raw), Ok(0));
        assert_eq!(user("0").map(|user| user.name), Ok("root".into()));
        let error = uid("no-such-user-here").expect_err("none").to_string();
        assert_eq!(error, "cannot find user 'no-such-user-here': no such user");
        let error = gid("no-such-group-here").expect_err("none").to_string();
        assert_eq!(
            error,
            "cannot find group 'no-such-group-here': no such group"
        );
    }
}
