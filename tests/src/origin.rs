//! Applications behind the proxies. They report exactly what reached them.

mod echo;
mod names;
mod tcp;
mod tls;

pub use echo::{Origin, Seen};
pub use names::NameServer;
pub use tcp::{FAREWELL, RESET, TcpOrigin};
pub use tls::{Greeting, TlsFront};
