use std::ffi::OsStr;
use std::sync::Arc;

use super::{Environment, VariablePool};

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().copied().collect()
}

fn texts(environment: &Environment) -> Vec<String> {
    let all = environment.iter();
    all.map(|it| it.text().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn what_is_no_variable_is_passed_over() {
    let read = Environment::parse(b"A=1\0nothing\0\0=\0=X=2\0B=\0C=3=4\0=y\0D=last");
    assert_eq!(texts(&read), ["A=1", "=X=2", "B=", "C=3=4", "D=last"]);
    let pairs: Vec<_> = read.iter().map(|it| (it.name(), it.value())).collect();
    let expected = [
        ("A", "1"),
        ("=X", "2"),
        ("B", ""),
        ("C", "3=4"),
        ("D", "last"),
    ];
    assert_eq!(
        pairs,
        expected.map(|(name, value)| (OsStr::new(name), OsStr::new(value)))
    );
    assert_eq!(read.number("C"), None::<u32>);
    assert_eq!(read.number("=X"), Some(2));
    assert!(environment(&[("", "1"), ("A\0", "1"), ("A", "\0"), ("A=B", "1")]).is_empty());
}

#[test]
fn what_differs_shares_the_rest() {
    let base = environment(&[("A", "1"), ("B", "2"), ("C", "3"), ("A", "4")]);
    let mut other = base.clone();
    other.retain(|name| name != "A");
    other.push("D", "5").expect("no NUL");
    other.retain(|name| name != "C");
    assert_eq!(texts(&other), ["B=2", "D=5"]);
    assert_eq!(texts(&base), ["A=1", "B=2", "C=3", "A=4"]);
    assert!(Arc::ptr_eq(&base.block, &other.block));
    assert!(other.push("E", "x\0").is_err());
    assert_eq!(other, environment(&[("B", "2"), ("D", "5")]));
    assert_eq!(
        (base.value("A"), other.value("A")),
        (Some("1".as_ref()), None)
    );
}

#[test]
fn settings_overrule_and_the_last_of_a_name_counts() {
    let base = environment(&[("A", "1"), ("B", "2")]);
    let mut set = environment(&[("B", "3")]);
    for (name, value) in [("C", "4"), ("B", "5")] {
        set.push(name, value).expect("no NUL");
    }
    let both = base.overruled_by(&set);
    assert_eq!(texts(&both), ["A=1", "C=4", "B=5"]);
    assert!(Arc::ptr_eq(&both.own[0], &set.own[0]));
}

#[test]
fn a_document_has_each_name_once() {
    let given = environment(&[("B", "1"), ("A", "2"), ("B", "3"), ("=X", "ü")]);
    let json = serde_json::to_string(&given).expect("written");
    assert_eq!(json, r#"[["=X","ü"],["A","2"],["B","3"]]"#);
    let read: Environment = serde_json::from_str(&json).expect("read");
    assert_eq!(texts(&read), ["=X=ü", "A=2", "B=3"]);
    for wrong in [r#"[["","1"]]"#, r#"[["A","\u0000"]]"#, r#"[["A=B","1"]]"#] {
        let error = serde_json::from_str::<Environment>(wrong).expect_err(wrong);
        assert!(error.to_string().contains("is no variable"), "{error}");
    }
}

#[test]
fn equal_variables_are_found_again() {
    let base = environment(&[("A", "1"), ("B", "2"), ("A", "1"), ("C", "3")]);
    let base = base.overruled_by(&environment(&[("D", "4")]));
    let mut pool = VariablePool::new(&base);
    let read = environment(&[("A", "1"), ("B", "other"), ("C", "3"), ("D", "4")]);
    let [one, two] = [pool.share(&read), pool.share(&read)];
    for shared in [&one, &two] {
        let mut all = texts(shared);
        all.sort();
        assert_eq!(all, ["A=1", "B=other", "C=3", "D=4"]);
        assert!(Arc::ptr_eq(&shared.block, &base.block));
    }
    assert!(Arc::ptr_eq(&one.own[0], &two.own[0]), "B is stored once");
    assert!(
        Arc::ptr_eq(&one.own[1], &base.own[0]),
        "D is that of the base"
    );
    let nothing = pool.share(&environment(&[("Z", "1")]));
    assert_eq!(texts(&nothing), ["Z=1"]);
    assert!(!Arc::ptr_eq(&nothing.block, &base.block));
}
