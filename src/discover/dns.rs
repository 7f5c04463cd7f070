//! Names: every address of one is a node; SRV records bring host and port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Found;

/// Where the system says which name servers it uses.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Name servers that are asked, one after the other, as system resolvers do.
const SERVERS_MAX: usize = 3;

/// How long one of them may take: the next one, or another try, comes before the deadline of the look.
const SERVER_TIME_MAX: Duration = Duration::from_millis(400);

/// Largest answer over UDP without further agreement; a larger one is cut off and comes over TCP.
const UDP_BYTES_MAX: usize = 4096;

/// Addresses by the system's own resolver, as for every other name that is dialled.
pub(super) async fn addresses(name: &str, port: u16) -> Result<Vec<Found>, String> {
    let addresses =
        tokio::net::lookup_host((name, port)).await.map_err(|error| format!("does not resolve: {error}"))?;
    let hosts = addresses.map(|address| IpAddr::to_string(&address.ip().to_canonical()));
    Ok(hosts.map(|host| found(host, port)).collect())
}

/// Targets of SRV records, by the name servers that the system is set up with. The name is taken as it stands: no
/// search domain is added.
pub(super) async fn services(name: &str) -> Result<Vec<Found>, String> {
    let text = tokio::task::spawn_blocking(|| std::fs::read_to_string(RESOLV_CONF)).await;
    targets(name, &servers(&text.ok().and_then(Result::ok).unwrap_or_default())).await
}

/// As `resolv.conf` lists them; without any the one on this machine.
fn servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listed = words.filter_map(|words| match words.as_slice() {
        ["nameserver", address, ..] => Some(SocketAddr::new(address.parse().ok()?, 53)),
        _ => None,
    });
    let listed: Vec<SocketAddr> = listed.take(SERVERS_MAX).collect();
    if listed.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { listed }
}

async fn targets(name: &str, servers: &[SocketAddr]) -> Result<Vec<Found>, String> {
    let mut fault = "no name server is known".to_owned();
    for server in servers {
        match timeout(SERVER_TIME_MAX, ask(name, *server)).await {
            Ok(Ok(answer)) => return read(&answer),
            Ok(Err(error)) => fault = format!("is not resolved by {}: {error}", server.ip()),
            Err(_) => fault = format!("is not resolved: {} does not answer", server.ip()),
        }
    }
    Err(fault)
}

/// One question, over UDP and, where the answer does not fit, over TCP.
async fn ask(name: &str, server: SocketAddr) -> io::Result<Vec<u8>> {
    let refused = |error: simple_dns::SimpleDnsError| io::Error::other(error.to_string());
    let mut packet = Packet::new_query(rand::random());
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let asked = Name::new(name.trim_end_matches('.')).map_err(refused)?;
    packet.questions.push(Question::new(asked, TYPE::SRV.into(), CLASS::IN.into(), false));
    let question = packet.build_bytes_vec().map_err(refused)?;
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    // Connected, and at a port of the kernel's choice: nobody else's packets arrive.
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        let Ok(read) = Packet::parse(&answer[..length]) else { continue };
        if read.id() != packet.id() {
            continue;
        }
        if read.has_flags(PacketFlag::TRUNCATION) {
            return ask_at_length(&question, server).await;
        }
        answer.truncate(length);
        return Ok(answer);
    }
}

async fn ask_at_length(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn read(answer: &[u8]) -> Result<Vec<Found>, String> {
    let packet = Packet::parse(answer).map_err(|error| format!("is answered by no DNS: {error}"))?;
    if packet.rcode() != RCODE::NoError {
        return Err(format!("has no SRV records: the name server says {:?}", packet.rcode()));
    }
    let services = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::SRV(service) => Some(found(service.target.to_string(), service.port)),
        _ => None,
    });
    Ok(services.collect())
}

fn found(host: String, port: u16) -> Found {
    Found { host, port, role: None, shard: None, id: None, slots: None }
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;
    use tokio::net::TcpListener;

    use super::*;

    fn answer(question: &[u8], rcode: RCODE, cut: bool) -> Vec<u8> {
        let asked = Packet::parse(question).unwrap();
        assert_eq!(asked.questions[0].qname.to_string(), "_redis._tcp.example.com");
        let mut packet = asked.into_reply();
        *packet.rcode_mut() = rcode;
        if cut {
            packet.set_flags(PacketFlag::TRUNCATION);
        } else if rcode == RCODE::NoError {
            for (index, target) in ["redis-0.example.com", "redis-1.example.com"].into_iter().enumerate() {
                let target = Name::new_unchecked(target);
                let data = RData::SRV(SRV { priority: 0, weight: 1, port: 7000 + index as u16, target });
                packet.answers.push(ResourceRecord::new(
                    Name::new_unchecked("_redis._tcp.example.com"),
                    CLASS::IN,
                    5,
                    data,
                ));
            }
        }
        packet.build_bytes_vec().unwrap()
    }

    /// Both at one port, of those that are free over UDP one that is free over TCP, too.
    async fn bound() -> (UdpSocket, TcpListener) {
        loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                return (udp, tcp);
            }
        }
    }

    /// A name server for one question, over UDP, and then over TCP if that answer was cut off.
    async fn ask_a_server(rcode: RCODE, cut: bool) -> Result<Vec<(String, u16)>, String> {
        let (udp, tcp) = bound().await;
        let address = udp.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut question = [0; 512];
            let (length, client) = udp.recv_from(&mut question).await.unwrap();
            udp.send_to(b"nonsense", client).await.unwrap();
            udp.send_to(&answer(&question[..length], rcode, cut), client).await.unwrap();
            if cut {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answer(&question, rcode, false);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        let found = match ask("_redis._tcp.example.com.", address).await {
            Ok(answer) => read(&answer),
            Err(error) => Err(error.to_string()),
        };
        server.await.unwrap();
        found.map(|found| found.into_iter().map(|node| (node.host, node.port)).collect())
    }

    #[tokio::test]
    async fn services_bring_host_and_port_whatever_the_length_of_the_answer() {
        let both = [("redis-0.example.com".to_owned(), 7000), ("redis-1.example.com".to_owned(), 7001)];
        for cut in [false, true] {
            assert_eq!(ask_a_server(RCODE::NoError, cut).await.unwrap(), both, "{cut}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_a_fault() {
        let fault = ask_a_server(RCODE::NameError, false).await.unwrap_err();
        assert_eq!(fault, "has no SRV records: the name server says NameError");
    }

    #[test]
    fn name_servers_are_those_of_the_system() {
        let text = "# a comment\nsearch example.com\nnameserver 10.0.0.53\nnameserver fd00::53\nnameserver x\noptions ndots:5\n";
        let listed: Vec<String> = servers(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(listed, ["10.0.0.53:53", "[fd00::53]:53"]);
        assert_eq!(servers("").len(), 1);
    }
}
