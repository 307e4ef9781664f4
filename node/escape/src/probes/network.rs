//! Networks: the host's own, and what it reaches.

use super::plain;
use crate::probe::{CLOSED_NETWORK, FILTER, NETWORK, Probe, RAW_NETWORK, Stop, Stops, Tried, World, at, same, through};
use crate::syscall::{address, address_mut, call};
use decores_sandbox::Hole::{Root, Seccomp};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where clouds tell machines their secrets.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

const SOCKET_FILES: Stops = Stops { wasm: &[Seccomp, Root], container: &[Root] };

pub(super) const PROBES: &[Probe] = &[
    plain("cloud-metadata", "sends to the cloud's metadata address", NETWORK, metadata),
    plain("loopback-stream", "connects to a service on the host's loopback", CLOSED_NETWORK, stream),
    plain("loopback-datagram", "asks a service on the host's loopback", NETWORK, datagram),
    plain("abstract-socket", "connects to an abstract Unix socket", CLOSED_NETWORK, abstract_socket),
    plain("socket-file", "connects to a Unix socket of the host's", SOCKET_FILES, |world| {
        answered(UnixStream::connect(world.on_host(&world.socket_file)), world)
    }),
    plain("raw-socket", "opens a raw socket", RAW_NETWORK, |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    plain("packet-socket", "opens a socket that sees all packets", RAW_NETWORK, |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
    }),
    plain("host-socket", "opens a socket to the hypervisor", FILTER, |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    plain("audit-socket", "opens a netlink socket of the kernel's log of events", FILTER, |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)
    }),
    plain(
        "interfaces",
        "finds the host's interfaces by netlink",
        Stops { wasm: NETWORK.wasm, container: NETWORK.wasm },
        interfaces,
    ),
];

fn metadata(_: &World) -> Tried {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(at("socket"))?;
    socket.send_to(b"?", (METADATA, 80)).map_err(at("sendto"))?;
    through("a datagram was sent")
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn stream(world: &World) -> Tried {
    answered(TcpStream::connect_timeout(&loopback(world.tcp_port), PATIENCE), world)
}

fn datagram(world: &World) -> Tried {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(at("bind"))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(at("setsockopt"))?;
    socket.send_to(b"?", loopback(world.udp_port)).map_err(at("sendto"))?;
    let mut answer = [0; 256];
    let length = socket.recv(&mut answer).map_err(at("recv"))?;
    same(answer.get(..length).unwrap_or_default(), world, "its answer")
}

fn abstract_socket(world: &World) -> Tried {
    let name = UnixAddr::from_abstract_name(&world.abstract_name).map_err(at("naming it"))?;
    answered(UnixStream::connect_addr(&name), world)
}

fn answered(connected: io::Result<impl Read>, world: &World) -> Tried {
    let mut answer = Vec::new();
    connected.map_err(at("connect"))?.take(256).read_to_end(&mut answer).map_err(at("read"))?;
    same(&answer, world, "its answer")
}

fn socket(family: i32, kind: i32, protocol: i32) -> Tried {
    // A raw protocol of packets is given in the network's order.
    let numbers = [family, kind | libc::SOCK_CLOEXEC, protocol].map(crate::syscall::signed);
    call(libc::SYS_socket, numbers).map_err(at("socket"))?;
    through("it was opened")
}

fn interfaces(world: &World) -> Tried {
    const LENGTH: u32 = 32;
    let kind =
        u32::from(libc::RTM_GETLINK) | (libc::NLM_F_REQUEST.unsigned_abs() | libc::NLM_F_DUMP.unsigned_abs()) << 16;
    // Header: length, type and flags, sequence, sender; then an empty `ifinfomsg`.
    let request = [LENGTH, kind, 1, 0, 0, 0, 0, 0];
    let open = [libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE].map(crate::syscall::signed);
    let socket = call(libc::SYS_socket, open).map_err(at("socket"))?;
    call(libc::SYS_sendto, [socket, address(&request), LENGTH as usize, 0, 0, 0]).map_err(at("sendto"))?;
    let mut answer = Vec::new();
    let mut part = vec![0_u8; 64 << 10];
    // It comes in parts, all of which are there at once or made while they are read.
    loop {
        let place = address_mut(part.as_mut_slice());
        match call(libc::SYS_recvfrom, [socket, place, part.len(), libc::MSG_DONTWAIT as usize, 0, 0]) {
            Ok(length) if length > 0 => answer.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(error) if answer.is_empty() => return Err(at("recvfrom")(error)),
            _ => break,
        }
    }
    let seen = |name: &&String| answer.windows(name.len() + 1).any(|part| part == [name.as_bytes(), b"\0"].concat());
    match world.interfaces.iter().find(seen) {
        Some(name) => through(format!("`{name}` was found")),
        None => Err(Stop::Refused("looking for one", io::ErrorKind::NotFound.into())),
    }
}
