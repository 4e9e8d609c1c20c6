//! Applications behind the proxies. They report exactly what reached them.

mod echo;
mod tcp;

pub use echo::{Origin, Seen};
pub use tcp::{FAREWELL, RESET, TcpOrigin};
