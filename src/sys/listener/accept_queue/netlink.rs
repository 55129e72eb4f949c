//! Messages of the kernel's socket diagnosis (sock_diag(7)): header, words, attributes.

/// The length of `struct nlmsghdr`: length, type, flags, sequence number, port.
pub(super) const HEADER_LEN: usize = 16;
/// The type of a refusal: a negative errno follows the header.
pub(super) const NLMSG_ERROR: u16 = 2;
/// The type of the last message of an answer that has many.
pub(super) const NLMSG_DONE: u16 = 3;
/// The type of request and reply: sockets of one address family.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The flag of every request.
pub(super) const NLM_F_REQUEST: u16 = 1;
/// The flags of a request for all sockets.
pub(super) const NLM_F_DUMP: u16 = 0x300;

/// The header of a request whose length, header included, is this.
pub(super) fn header(length: usize, flags: u16, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes
}

/// The value of the first attribute of this type. Each begins at a multiple of four, with its
/// length and its type.
pub(super) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        if u16_at(attributes, 2)? == wanted {
            return attributes.get(4..length);
        }
        // At least the four bytes of length and type: a length of 0 would make the loop endless.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
