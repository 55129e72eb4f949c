//! The load client itself: it tells one kind of loss from another.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use crate::common::load::{Kind, Target, request};

#[test]
fn the_load_client_distinguishes_every_kind_of_loss() {
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let target = Target::Tcp(listener.local_addr().expect("an address"));
    let kind_of = |serve: &(dyn Fn(TcpStream) -> io::Result<()> + Sync)| {
        std::thread::scope(|scope| {
            scope.spawn(|| serve(listener.accept().expect("a client").0).expect("served"));
            request(&target, "7").map_err(|(kind, _)| kind)
        })
    };
    let answering = |answer: &'static [u8]| {
        move |mut stream: TcpStream| {
            stream
                .read_exact(&mut [0; 2])
                .and_then(|()| stream.write_all(answer))
        }
    };
    assert_eq!(kind_of(&answering(b"hello 7, here you are\n")), Ok(()));
    assert_eq!(kind_of(&answering(b"")), Err(Kind::Empty));
    assert_eq!(
        kind_of(&answering(b"hello 8, here you are\n")),
        Err(Kind::Wrong)
    );
    assert_eq!(kind_of(&answering(b"hello 7, here yo")), Err(Kind::Wrong));
    // What is closed with something unread in it is reset.
    assert_eq!(
        kind_of(&|stream| stream.peek(&mut [0; 2]).map(drop)),
        Err(Kind::Reset)
    );
    // Bound and not listening. (A dropped listener may live on in a child that another test has
    // just forked.)
    let mute = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    mute.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .expect("bound");
    let target = Target::Tcp(
        mute.local_addr()
            .ok()
            .and_then(|at| at.as_socket())
            .expect("an address"),
    );
    assert_eq!(
        request(&target, "7").map_err(|(kind, _)| kind),
        Err(Kind::Refused)
    );
}
