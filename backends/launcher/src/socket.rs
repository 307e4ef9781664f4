//! Packets with descriptors over a `SOCK_SEQPACKET` pair.
#![expect(unsafe_code, reason = "ancillary data has no safe interface in the standard library")]

use crate::message::MAX_PACKET;
use crate::syscall::done;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Most descriptors in one packet.
const MAX_FDS: usize = 8;
const FD_SIZE: usize = mem::size_of::<libc::c_int>();

/// Room for one control message; aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
}

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) OwnedFd);

impl Socket {
    /// A connected pair; neither end survives an exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let mut fds = [-1; 2];
        // SAFETY: `fds` has room for the two descriptors.
        let made =
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
        done(i64::from(made))?;
        // SAFETY: the kernel just made both descriptors, and nobody else owns them.
        let [a, b] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok((Self(a), Self(b)))
    }

    /// Listens at a path where nothing is yet.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        let (socket, (address, length)) = (Self::new()?, address(path)?);
        // SAFETY: the address is a whole `sockaddr_un` of which `length` bytes are meant, and lives through the call.
        done(unsafe { libc::bind(socket.0.as_raw_fd(), (&raw const address).cast(), length) }.into())?;
        // SAFETY: takes only numbers.
        done(unsafe { libc::listen(socket.0.as_raw_fd(), 4) }.into())?;
        Ok(socket)
    }

    /// Connects to whoever listens at a path.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let (socket, (address, length)) = (Self::new()?, address(path)?);
        // SAFETY: as in `listen`.
        done(unsafe { libc::connect(socket.0.as_raw_fd(), (&raw const address).cast(), length) }.into())?;
        Ok(socket)
    }

    /// The next who connects.
    pub(crate) fn accept(&self) -> io::Result<Self> {
        // SAFETY: null addresses ask for none.
        let fd = unsafe { libc::accept4(self.0.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC) };
        let fd = done(i64::from(fd))?;
        // SAFETY: the kernel just made it, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }))
    }

    fn new() -> io::Result<Self> {
        // SAFETY: takes only numbers.
        let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) };
        let fd = done(i64::from(fd))?;
        // SAFETY: the kernel just made it, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }))
    }

    /// Who made the other end.
    pub(crate) fn peer(&self) -> io::Result<Peer> {
        let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut length = mem::size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: `found` is as long as is said, and lives through the call.
        done(i64::from(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut found).cast(),
                &raw mut length,
            )
        }))?;
        Ok(Peer { pid: found.pid, uid: found.uid })
    }

    /// Another handle on the same end.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Has a packet that the other side makes no room for fail after so many seconds.
    pub(crate) fn give_up_sending_after(&self, seconds: i64) -> io::Result<()> {
        let time = libc::timeval { tv_sec: seconds, tv_usec: 0 };
        let length = mem::size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: `time` is as long as is said, and lives through the call.
        done(i64::from(unsafe {
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, (&raw const time).cast(), length)
        }))
        .map(drop)
    }

    /// Ends both directions; the other side reads the end of the stream.
    pub(crate) fn shut(&self) {
        // SAFETY: takes only a descriptor we own.
        unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_RDWR) };
    }

    /// Sends one packet with these descriptors.
    pub(crate) fn send(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if packet.is_empty() || packet.len() > MAX_PACKET || fds.len() > MAX_FDS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "packet too large"));
        }
        let mut part = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
        let mut control = Control([0; 64]);
        // SAFETY: all-zero is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !fds.is_empty() {
            let bytes = fds.len() * FD_SIZE;
            header.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: pure arithmetic on a length of at most `MAX_FDS` descriptors.
            header.msg_controllen = unsafe { libc::CMSG_SPACE(bytes as u32) } as usize;
            // SAFETY: `control` holds `CMSG_SPACE` of `MAX_FDS` descriptors (48 bytes of 64), so the first
            // header and its data lie inside it.
            unsafe {
                let first = libc::CMSG_FIRSTHDR(&raw const header);
                (*first).cmsg_level = libc::SOL_SOCKET;
                (*first).cmsg_type = libc::SCM_RIGHTS;
                (*first).cmsg_len = libc::CMSG_LEN(bytes as u32) as usize;
                let data = libc::CMSG_DATA(first).cast::<libc::c_int>();
                for (i, fd) in fds.iter().enumerate() {
                    data.add(i).write_unaligned(fd.as_raw_fd());
                }
            }
        }
        loop {
            // SAFETY: `header` points to buffers that live until the call returns.
            let sent = unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
            match done(sent as i64) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The next packet and its descriptors; `None` when the other side is gone.
    pub(crate) fn receive(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut buffer = vec![0_u8; MAX_PACKET];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = Control([0; 64]);
        // SAFETY: all-zero is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        let got = loop {
            // SAFETY: `header` points to writable buffers of the lengths it states.
            let got = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
            match done(got as i64) {
                Ok(n) => break usize::try_from(n).unwrap_or(0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        };
        let fds = descriptors(&header);
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too large"));
        }
        if got == 0 {
            return Ok(None);
        }
        buffer.truncate(got);
        Ok(Some((buffer, fds)))
    }
}

/// A path as the kernel takes it.
fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: all-zero is a valid `sockaddr_un`.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    // One byte stays 0.
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no path for a socket, or too long for one"));
    }
    address.sun_path.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as libc::c_char);
    Ok((address, mem::size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

/// Takes over every descriptor that came with a message.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut out = Vec::new();
    // SAFETY: the kernel filled the control buffer; the macros stay inside its stated length, and each
    // descriptor in it is new and ours.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while !next.is_null() {
            if (*next).cmsg_level == libc::SOL_SOCKET && (*next).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*next).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(next).cast::<libc::c_int>();
                for i in 0..bytes / FD_SIZE {
                    out.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
    out
}
