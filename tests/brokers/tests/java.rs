//! Programs in Java: what becomes of one that ends, that fails, and that is none.

use spanprof_brokers::{JavaClient, JavaProgram, require};

/// A program of one statement.
fn program(source: &'static str) -> JavaProgram {
    JavaProgram { client: JavaClient::Kafka, class: "Short", source }
}

#[test]
fn the_end_of_a_program_is_the_end_of_its_spans() {
    let test = "the_end_of_a_program_is_the_end_of_its_spans";
    let Some(()) = require(test, JavaClient::fetch()) else { return };
    let short = program(
        "public class Short { public static void main(String[] a) { System.out.println(\"no span\"); } }",
    );
    let mut running = short.start(&[], &[]).expect("it starts");
    assert_eq!(running.next_span(), Ok(None));
}

#[test]
fn a_program_that_fails_says_why() {
    let Some(()) = require("a_program_that_fails_says_why", JavaClient::fetch()) else { return };
    let short = program(
        "public class Short { public static void main(String[] a) { throw new RuntimeException(a[0]); } }",
    );
    let mut running = short.start(&[], &["out of luck"]).expect("it starts");
    let failure = running.next_span().expect_err("it fails").to_string();
    assert!(failure.starts_with("Short failed: ") && failure.contains("out of luck"), "{failure}");
}

#[test]
fn a_program_that_does_not_compile_does_not_start() {
    let test = "a_program_that_does_not_compile_does_not_start";
    let Some(()) = require(test, JavaClient::fetch()) else { return };
    let started = program("public class Short { nothing }").start(&[], &[]);
    let error = started.expect_err("it is no Java").to_string();
    assert!(error.contains("Short does not compile: ") && error.contains("Short.java:1"), "{error}");
}
