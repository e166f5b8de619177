//! `sconce health`: asks the server of this machine how it is, as a container's health check does, in whose image there is
//! no other client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sconce_config::{CommandLine, Configuration, Environment};

use crate::command;

/// A server that does not answer for so long is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `sconce health`.
#[derive(Args, Debug)]
pub(crate) struct HealthArguments {
    /// Address that the server listens on [default: as of `sconce serve`].
    #[arg(long, value_name = "H")]
    host: Option<String>,
    /// Port that it listens on [default: as of `sconce serve`].
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

/// Prints what `/ping` answers; 0 if that is 200.
pub(crate) fn run(arguments: HealthArguments) -> ExitCode {
    let line = CommandLine {
        host: arguments.host,
        port: arguments.port,
        ..CommandLine::default()
    };
    let configuration = Configuration::read(&line, &Environment::from_process());
    let server = configuration.server();
    let asked = match server.tls {
        None => ask(&server.host, server.port),
        // Nobody here knows which name the certificate is for.
        Some(_) => connect(&server.host, server.port).map(|_| {
            (
                200,
                "the port is open; what is behind TLS is not asked\n".into(),
            )
        }),
    };
    match asked {
        Ok((status, body)) => {
            command::print(&body);
            ExitCode::from(u8::from(status != 200))
        }
        Err(cause) => {
            let _ = writeln!(std::io::stderr(), "sconce health: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

/// Status and body of `/ping`.
fn ask(host: &str, port: u16) -> anyhow::Result<(u16, String)> {
    let mut socket = connect(host, port)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /ping HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    socket
        .read_to_string(&mut answer)
        .context("there is no whole answer to GET /ping")?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1);
    let status = status.and_then(|status| status.parse().ok());
    let status = status.context("what answers GET /ping speaks no HTTP")?;
    Ok((status, body.to_owned()))
}

fn connect(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let connect = || -> anyhow::Result<TcpStream> {
        let mut found = (host, port).to_socket_addrs()?;
        let address = found.next().context("no such address")?;
        Ok(TcpStream::connect_timeout(&reachable(address), PATIENCE)?)
    };
    connect().with_context(|| format!("nobody answers at {host}:{port}"))
}

/// Who listens on all addresses is reached at that of this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
