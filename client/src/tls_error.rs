//! Pure: texts for errors of TLS, which say what is wrong and at which end.

use std::io;

use rustls::{AlertDescription, CertificateError};

/// The error with a text that helps, where it is one of TLS.
pub(crate) fn explain(error: io::Error) -> io::Error {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = match of_tls {
        Some(rustls::Error::AlertReceived(alert)) => match alert {
            AlertDescription::CertificateRequired => "the server requires a client certificate",
            AlertDescription::AccessDenied => {
                "the server does not serve the identity of the client's certificate"
            }
            AlertDescription::UnknownCA => {
                "the server does not trust the authority of the client's certificate"
            }
            AlertDescription::CertificateExpired => "the client's certificate has expired",
            _ => return error,
        },
        Some(rustls::Error::InvalidMessage(_)) => "the server does not use TLS: use http://",
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::UnknownIssuer => {
                "no authority that the client trusts signed the server's certificate"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            _ => return error,
        },
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_tls_says_at_which_end_and_any_other_stays() {
        let explained = |error: rustls::Error| {
            explain(io::Error::new(io::ErrorKind::InvalidData, error)).to_string()
        };
        let refused = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        assert!(explained(refused).contains("the authority of the client's certificate"));
        let strange = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(explained(strange).contains("signed the server's certificate"));
        let wrong_name = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        assert!(explained(wrong_name).contains("NotValidForName"));
        let other = explain(io::Error::new(io::ErrorKind::ConnectionReset, "reset"));
        assert_eq!(
            (other.kind(), other.to_string().as_str()),
            (io::ErrorKind::ConnectionReset, "reset")
        );
    }
}
