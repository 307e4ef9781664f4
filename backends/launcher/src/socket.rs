//! Packets with descriptors over a `SOCK_SEQPACKET` pair.
#![expect(unsafe_code, reason = "ancillary data has no safe interface in the standard library")]

use crate::message::MAX_PACKET;
use crate::syscall::done;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Most descriptors in one packet.
const MAX_FDS: usize = 8;
const FD_SIZE: usize = mem::size_of::<libc::c_int>();

/// Room for one control message; aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

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

    /// Another handle on the same end.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
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
