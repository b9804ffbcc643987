//! What a broker's or proxy's answer means: nothing to say, or an error by its name for `error.type`.
//!
//! Names are the protocols' own, as the conventions' examples are; a code without a name becomes `_OTHER`. An empty poll is
//! an answer like any other and has no error.

use crate::conventions::OTHER_ERROR as OTHER;

/// The error that a response code of the remoting protocol tells; `None` for success and for the codes of an empty poll.
pub fn remoting_error(code: i32) -> Option<&'static str> {
    Some(match code {
        // Success, and: nothing there, try again, too many are waiting, waited in vain.
        0 | 19 | 20 | 209 | 210 => return None,
        1 => "SYSTEM_ERROR",
        2 => "SYSTEM_BUSY",
        3 => "REQUEST_CODE_NOT_SUPPORTED",
        4 => "TRANSACTION_FAILED",
        10 => "FLUSH_DISK_TIMEOUT",
        11 => "SLAVE_NOT_AVAILABLE",
        12 => "FLUSH_SLAVE_TIMEOUT",
        13 => "MESSAGE_ILLEGAL",
        14 => "SERVICE_NOT_AVAILABLE",
        15 => "VERSION_NOT_SUPPORTED",
        16 => "NO_PERMISSION",
        17 => "TOPIC_NOT_EXIST",
        21 => "PULL_OFFSET_MOVED",
        22 => "QUERY_NOT_FOUND",
        23 => "SUBSCRIPTION_PARSE_FAILED",
        24 => "SUBSCRIPTION_NOT_EXIST",
        25 => "SUBSCRIPTION_NOT_LATEST",
        26 => "SUBSCRIPTION_GROUP_NOT_EXIST",
        206 => "CONSUMER_NOT_ONLINE",
        207 => "CONSUME_MSG_TIMEOUT",
        215 => "FLOW_CONTROL",
        _ => OTHER,
    })
}

/// The error that a status code of the gRPC protocol tells; `None` for success and for "no message".
pub fn grpc_error(code: i32) -> Option<&'static str> {
    Some(match code {
        // OK, multiple results (each tells for itself), message not found: an empty poll.
        20000 | 30000 | 40401 => return None,
        40000 => "BAD_REQUEST",
        40001 => "ILLEGAL_ACCESS_POINT",
        40002 => "ILLEGAL_TOPIC",
        40003 => "ILLEGAL_CONSUMER_GROUP",
        40004 => "ILLEGAL_MESSAGE_TAG",
        40005 => "ILLEGAL_MESSAGE_KEY",
        40006 => "ILLEGAL_MESSAGE_GROUP",
        40007 => "ILLEGAL_MESSAGE_PROPERTY_KEY",
        40008 => "INVALID_TRANSACTION_ID",
        40009 => "ILLEGAL_MESSAGE_ID",
        40010 => "ILLEGAL_FILTER_EXPRESSION",
        40011 => "ILLEGAL_INVISIBLE_TIME",
        40012 => "ILLEGAL_DELIVERY_TIME",
        40013 => "INVALID_RECEIPT_HANDLE",
        40014 => "MESSAGE_PROPERTY_CONFLICT_WITH_TYPE",
        40015 => "UNRECOGNIZED_CLIENT_TYPE",
        40016 => "MESSAGE_CORRUPTED",
        40017 => "CLIENT_ID_REQUIRED",
        40100 => "UNAUTHORIZED",
        40200 => "PAYMENT_REQUIRED",
        40300 => "FORBIDDEN",
        40400 => "NOT_FOUND",
        40402 => "TOPIC_NOT_FOUND",
        40403 => "CONSUMER_GROUP_NOT_FOUND",
        40800 => "REQUEST_TIMEOUT",
        41300 => "PAYLOAD_TOO_LARGE",
        41301 => "MESSAGE_BODY_TOO_LARGE",
        42800 => "PRECONDITION_FAILED",
        42900 => "TOO_MANY_REQUESTS",
        43100 => "REQUEST_HEADER_FIELDS_TOO_LARGE",
        43101 => "MESSAGE_PROPERTIES_TOO_LARGE",
        50000 => "INTERNAL_ERROR",
        50001 => "INTERNAL_SERVER_ERROR",
        50002 => "HA_NOT_AVAILABLE",
        50100 => "NOT_IMPLEMENTED",
        50400 => "PROXY_TIMEOUT",
        50401 => "MASTER_PERSISTENCE_TIMEOUT",
        50402 => "SLAVE_PERSISTENCE_TIMEOUT",
        50500 => "UNSUPPORTED",
        50501 => "VERSION_UNSUPPORTED",
        50502 => "VERIFY_FIFO_MESSAGE_UNSUPPORTED",
        60000 => "FAILED_TO_CONSUME_MESSAGE",
        _ => OTHER,
    })
}

/// The error that a broker's remark tells, where a client hands out the text alone.
///
/// A busy broker says why in brackets: `[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while …`. All of these
/// are `SYSTEM_BUSY`; the remark itself belongs into the span's status.
pub fn error_of_remark(remark: &str) -> &'static str {
    const BUSY: [&str; 5] = [
        "[TIMEOUT_CLEAN_QUEUE]",
        "[PCBUSY_CLEAN_QUEUE]",
        "[PC_SYNCHRONIZED]",
        "[REJECTREQUEST]",
        "[OVERLOAD]",
    ];
    const REMARKS: [(&str, &str); 5] = [
        ("broker busy", "SYSTEM_BUSY"),
        ("system busy", "SYSTEM_BUSY"),
        ("No topic route info", "TOPIC_NOT_EXIST"),
        ("not exist, apply first please", "TOPIC_NOT_EXIST"),
        ("sending message is forbidden", "NO_PERMISSION"),
    ];
    let head = &remark[..remark.floor_char_boundary(LONGEST_REMARK)];
    if BUSY.iter().any(|cause| head.contains(cause)) {
        return "SYSTEM_BUSY";
    }
    REMARKS.iter().find(|(part, _)| head.contains(part)).map_or(OTHER, |(_, error)| error)
}

/// How much of a remark is looked at.
const LONGEST_REMARK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_polls_are_no_errors() {
        for code in [0, 19, 20, 209, 210] {
            assert_eq!(remoting_error(code), None);
        }
        for code in [20000, 40401] {
            assert_eq!(grpc_error(code), None);
        }
    }

    #[test]
    fn errors_have_the_protocols_names() {
        assert_eq!(remoting_error(17), Some("TOPIC_NOT_EXIST"));
        assert_eq!(remoting_error(-1), Some(OTHER));
        assert_eq!(grpc_error(42900), Some("TOO_MANY_REQUESTS"));
        assert_eq!(grpc_error(0), Some(OTHER));
    }

    #[test]
    fn remarks_tell_that_a_broker_is_busy() {
        for (remark, error) in [
            (
                "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: 206ms",
                "SYSTEM_BUSY",
            ),
            ("CODE: 2  DESC: [PC_SYNCHRONIZED]broker busy, start flow control for a while", "SYSTEM_BUSY"),
            ("[REJECTREQUEST]system busy, start flow control for a while", "SYSTEM_BUSY"),
            ("topic[orders] not exist, apply first please!", "TOPIC_NOT_EXIST"),
            ("connection reset", OTHER),
            ("", OTHER),
        ] {
            assert_eq!(error_of_remark(remark), error, "{remark}");
        }
        assert_eq!(error_of_remark(&"é".repeat(100_000)), OTHER);
    }
}
