use proptest::prelude::*;

use super::*;

fn spec(text: &str) -> ListenSpec {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    match text.parse::<ListenSpec>() {
        Ok(spec) => panic!("{text} was read as {spec:?}"),
        Err(error) => error,
    }
}

#[test]
fn every_form_displays_in_its_plain_form() {
    for (text, plain) in [
        ("tcp:127.0.0.1:80", "tcp:127.0.0.1:80"),
        ("127.0.0.1:80", "tcp:127.0.0.1:80"),
        ("localhost:http", "tcp:localhost:http"),
        ("[::1]:80", "tcp:[::1]:80"),
        ("tcp:[0:0::1]:80", "tcp:[::1]:80"),
        ("[fe80::1%eth0]:80", "tcp:[fe80::1%eth0]:80"),
        ("tcp:80", "tcp:80"),
        (":80", "tcp:80"),
        ("80", "tcp:80"),
        ("http", "tcp:http"),
        ("tcp:tcp:80", "tcp:tcp:80"),
        ("udp:53", "udp:53"),
        ("udp::53", "udp:53"),
        ("udp:127.0.0.1:0", "udp:127.0.0.1:0"),
        ("udp:[::1]:domain", "udp:[::1]:domain"),
        ("unix:/run/a", "unix:/run/a"),
        ("/run/a", "unix:/run/a"),
        ("./a", "unix:./a"),
        ("../a", "unix:../a"),
        ("unix:a", "unix:a"),
        ("@name", "unix:@name"),
        ("unixgram:/run/a", "unixgram:/run/a"),
        ("unixseq:@a", "unixseq:@a"),
        ("vsock:2:1024", "vsock:2:1024"),
        ("vsock::1024", "vsock::1024"),
        ("fd:7", "fd:7"),
    ] {
        assert_eq!(spec(text).to_string(), plain, "{text}");
        assert_eq!(spec(plain), spec(text), "{text}");
    }
}

#[test]
fn a_name_differs_from_a_path_with_an_equals_sign() {
    let name = |text: &str| spec(text).name.map(|name| name.to_string());
    assert_eq!(name("web=8080"), Some("web".into()));
    assert_eq!(name("web=/run/a=b"), Some("web".into()));
    assert_eq!(name("/run/a=b"), None);
    assert_eq!(name("./a=b"), None);
    assert_eq!(name("@a=b"), None);
    assert_eq!(name("unix:a=b"), None);
    assert_eq!(name("a.b=unix:c=d"), Some("a.b".into()));
    assert_eq!(
        spec("x=/run/a=b").address,
        Address::Unix(Kind::Stream, "/run/a=b".into())
    );
}

#[test]
fn a_comma_in_a_path_is_escaped() {
    assert_eq!(
        spec(r"/run/a\,b,nonblock").address,
        Address::Unix(Kind::Stream, "/run/a,b".into())
    );
    assert_eq!(
        spec(r"/run/a\b").address,
        Address::Unix(Kind::Stream, r"/run/a\b".into())
    );
    assert_eq!(
        spec(r"/run/a\\,nonblock").address,
        Address::Unix(Kind::Stream, r"/run/a\".into())
    );
    assert_eq!(spec(r"/run/a\,b").to_string(), r"unix:/run/a\,b");
    assert_eq!(
        Address::Unix(Kind::Stream, "@a".into()).to_string(),
        "unix:./@a"
    );
}

#[test]
fn options_are_parsed() {
    let options = spec(
        "web=tcp:localhost:80,backlog=7,reuseport,copies=3,v6only,nodelay,keepalive,fastopen=4,\
         defer-accept=1m 500ms,rcvbuf=64K,sndbuf=1M,freebind,device=lo,mark=0x10,nonblock",
    )
    .options;
    let expected = Options {
        backlog: Some(7),
        reuseport: true,
        copies: Some(3),
        v6only: true,
        nodelay: true,
        keepalive: true,
        fastopen: Some(4),
        defer_accept: Some(std::time::Duration::from_secs(61)),
        rcvbuf: Some(crate::wire::address::size::Size(65536)),
        sndbuf: Some(crate::wire::address::size::Size(1 << 20)),
        freebind: true,
        device: Some("lo".into()),
        mark: Some(16),
        nonblock: true,
        ..Options::default()
    };
    assert_eq!(options, expected);
    let options = spec("/run/a,mode=0660,owner=www-data,group=33").options;
    assert_eq!(
        (
            options.mode,
            options.owner.as_deref(),
            options.group.as_deref()
        ),
        (Some(0o660), Some("www-data"), Some("33"))
    );
}

#[test]
fn each_option_that_does_not_fit_is_named() {
    let inet = ["reuseport", "copies=2", "freebind", "device=lo", "mark=1"];
    let tcp = ["nodelay", "keepalive", "fastopen=1", "defer-accept=1s"];
    let path = ["mode=0600", "owner=root", "group=root"];
    let mut cases: Vec<(&str, &str)> = vec![
        ("tcp:127.0.0.1:80", "v6only"),
        ("udp:0.0.0.0:80", "v6only"),
        ("fd:3", "v6only"),
    ];
    for address in ["tcp:80", "udp:80", "@a", "vsock::1", "fd:3"] {
        cases.extend(path.map(|option| (address, option)));
    }
    for address in [
        "udp:80",
        "/a",
        "@a",
        "unixgram:/a",
        "unixseq:/a",
        "vsock::1",
    ] {
        cases.extend(tcp.map(|option| (address, option)));
    }
    for address in ["/a", "@a", "unixgram:/a", "unixseq:/a", "vsock::1"] {
        cases.extend(inet.map(|option| (address, option)));
        cases.push((address, "v6only"));
    }
    cases.extend(["udp:80", "unixgram:/a", "unixgram:@a"].map(|address| (address, "backlog=5")));
    cases.extend(["reuseport", "copies=2", "freebind", "device=lo"].map(|option| ("fd:3", option)));
    for (address, option) in cases {
        let key = option.split('=').next().unwrap_or_default();
        let error = refusal(&format!("{address},{option}"));
        assert!(
            error.starts_with(&format!("option '{key}' does not fit ")),
            "{address},{option}: {error}"
        );
    }
}

#[test]
fn bad_addresses_give_one_line_with_the_reason() {
    for (text, part) in [
        ("", "an address is missing"),
        ("web=", "an address is missing"),
        (",backlog=1", "an address is missing"),
        ("::1:80", "in brackets"),
        ("[::1]", "[::1]:80"),
        ("[::x]:80", "not an IPv6 address"),
        ("[::1%]:80", "not an IPv6 address"),
        ("a b:80", "not a host"),
        ("host:", "neither a port"),
        ("host:65536", "out of range"),
        ("http://x", "neither a port"),
        ("app.sock", "a path begins with / or ./"),
        ("unix:", "needs a path"),
        ("@", "needs a path"),
        ("/", "names a directory"),
        ("/run/", "names a directory"),
        ("/run/a\nb", "control characters"),
        ("vsock:1", "vsock:CID:PORT"),
        ("vsock:x:1", "vsock:CID:PORT"),
        ("vsock:1:+1", "vsock:CID:PORT"),
        ("fd:x", "a descriptor is a number"),
        ("fd:-1", "a descriptor is a number"),
        ("80,", "missing after a comma"),
        ("80,shiny", "unknown option 'shiny'"),
        ("80,Backlog=1", "unknown option 'Backlog'"),
        ("80,backlog", "'backlog' needs a value"),
        ("80,backlog=", "'backlog' needs a value"),
        ("80,backlog=0", "not a number from 1"),
        ("80,backlog=99999999999", "not a number from 1"),
        ("80,backlog=1,backlog=1", "'backlog' is given twice"),
        ("80,nodelay,nodelay", "'nodelay' is given twice"),
        ("80,nodelay=1", "'nodelay' takes no value"),
        ("80,copies=1025", "more than 1024"),
        ("80,defer-accept=soon", "'defer-accept'"),
        ("80,defer-accept=0s", "out of range"),
        ("80,rcvbuf=4G", "out of range"),
        ("80,rcvbuf=x", "not a size"),
        (
            "80,device=much-too-long-a-name",
            "not the name of an interface",
        ),
        ("80,mark=x", "not a 32-bit number"),
        ("80,mark=0x+1", "not a 32-bit number"),
        ("/a,mode=0888", "not a mode"),
        ("/a,mode=1777", "not a mode"),
        ("/a,mode=+660", "not a mode"),
        ("/a,owner=a:b", "not a name"),
    ] {
        let error = refusal(text);
        assert!(error.contains(part), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{text:?}: {error}");
    }
    assert!(refusal(&format!("/{}", "x".repeat(107))).contains("longer than the 107 bytes"));
    assert!(refusal(&format!("{}=80,copies=2", "x".repeat(254))).contains("not a listener's name"));
    assert!(spec(&format!("/{}", "x".repeat(106))).name.is_none());
}

#[test]
fn inherited_names_are_passed_on_or_absent() {
    let name = |text| Name::inherited(text).map(|name| name.to_string());
    assert_eq!(name("web@1.socket"), Some("web@1.socket".into()));
    for text in ["", "unknown", "a b", "a:b", "a\nb"] {
        assert_eq!(name(text), None, "{text:?}");
    }
}

#[test]
fn bound_addresses_display_in_the_grammar() {
    let at = "127.0.0.1:8080".parse().expect("an address");
    assert_eq!(Bound::Tcp(at).to_string(), "tcp:127.0.0.1:8080");
    assert_eq!(Bound::Udp(at).with_port(9).to_string(), "udp:127.0.0.1:9");
    assert_eq!(
        Bound::Unix(Kind::Stream, "/run/a,b".into()).to_string(),
        r"unix:/run/a\,b"
    );
    assert_eq!(
        Bound::Unix(Kind::Stream, "/run/a\nb".into()).to_string(),
        "unix:/run/a?b"
    );
    assert_eq!(
        Bound::Abstract(Kind::Seqpacket, b"a".to_vec()).to_string(),
        "unixseq:@a"
    );
    assert_eq!(
        Bound::Vsock {
            cid: VSOCK_ANY,
            port: 9
        }
        .to_string(),
        "vsock::9"
    );
}

fn any_host() -> impl Strategy<Value = Host> {
    prop_oneof![
        Just(Host::Any),
        any::<std::net::Ipv4Addr>().prop_map(Host::V4),
        (
            any::<std::net::Ipv6Addr>(),
            proptest::option::of("[a-z0-9]{1,8}")
        )
            .prop_map(|(address, zone)| Host::V6(address, zone)),
        "[a-z][a-z0-9-]{0,10}(\\.[a-z]{1,5})?".prop_map(Host::Name),
    ]
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let port = prop_oneof![
        any::<u16>().prop_map(Port::Number),
        "[a-z][a-z0-9-]{0,10}".prop_map(Port::Service)
    ];
    (any_host(), port).prop_map(|(host, port)| Endpoint { host, port })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Stream),
        Just(Kind::Datagram),
        Just(Kind::Seqpacket)
    ]
}

fn any_address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any_endpoint().prop_map(Address::Tcp),
        any_endpoint().prop_map(Address::Udp),
        (any_kind(), "(\\./|/)[ -.0-~]{1,30}x")
            .prop_map(|(kind, path)| Address::Unix(kind, path.into())),
        (any_kind(), "[ -~]{1,30}").prop_map(|(kind, name)| Address::Abstract(kind, name)),
        (any::<u32>(), any::<u32>()).prop_map(|(cid, port)| Address::Vsock { cid, port }),
        (0..i32::MAX).prop_map(Address::Fd),
    ]
}

fn any_options() -> impl Strategy<Value = Options> {
    let numbers = (
        proptest::option::of(1..9999u32),
        proptest::option::of(1..=1024u32),
        proptest::option::of(1..99u32),
        proptest::option::of(any::<u32>()),
    );
    let flags = any::<[bool; 6]>();
    let sizes = (
        proptest::option::of(1..=0x7fff_ffffu64),
        proptest::option::of(1..=0x7fff_ffffu64),
        proptest::option::of(1..9999u64),
    );
    let texts = (
        proptest::option::of("[ -.0-9;-~]{1,9}"),
        proptest::option::of(0..=0o777u32),
        proptest::option::of("[!-.0-~]{1,15}"),
    );
    (numbers, flags, sizes, texts).prop_map(|(numbers, flags, sizes, texts)| Options {
        backlog: numbers.0,
        copies: numbers.1,
        fastopen: numbers.2,
        mark: numbers.3,
        reuseport: flags[0],
        v6only: flags[1],
        nodelay: flags[2],
        keepalive: flags[3],
        freebind: flags[4],
        nonblock: flags[5],
        rcvbuf: sizes.0.map(crate::wire::address::size::Size),
        sndbuf: sizes.1.map(crate::wire::address::size::Size),
        defer_accept: sizes.2.map(std::time::Duration::from_secs),
        owner: texts.0.clone(),
        group: texts.0,
        mode: texts.1,
        device: texts.2,
    })
}

/// Removes the options that do not fit, one by one, so that every option is tried with every
/// address.
fn fitted(mut options: Options, address: &Address) -> Options {
    let none = Options::default();
    while let Some(misfit) = options.misfit(address) {
        match misfit {
            "backlog" => options.backlog = None,
            "reuseport" => options.reuseport = false,
            "copies" => options.copies = None,
            "v6only" => options.v6only = false,
            "nodelay" => options.nodelay = false,
            "keepalive" => options.keepalive = false,
            "fastopen" => options.fastopen = None,
            "defer-accept" => options.defer_accept = None,
            "freebind" => options.freebind = false,
            "device" => options.device = None,
            "mark" => options.mark = None,
            "mode" => options.mode = None,
            "owner" => options.owner = None,
            "group" => options.group = None,
            _ => return none,
        }
    }
    options
}

proptest! {
    #[test]
    fn specs_round_trip(
        name in proptest::option::of("[A-Za-z0-9_.-]{1,12}"),
        address in any_address(),
        options in any_options(),
    ) {
        let name = name.map(|name| name.parse().expect("a name"));
        let options = fitted(options, &address);
        let spec = ListenSpec { name, address, options };
        prop_assert_eq!(spec.to_string().parse(), Ok(spec));
    }

    #[test]
    fn random_text_never_panics_and_round_trips(text in "\\PC{0,40}") {
        if let Ok(spec) = text.parse::<ListenSpec>() {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }

    #[test]
    fn text_of_the_grammars_characters_never_panics(
        text in "(tcp|udp|unix|fd|vsock|[a-z:=,@/.\\\\\\[\\]%0-9]){1,20}",
    ) {
        if let Ok(spec) = text.parse::<ListenSpec>() {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }
}
