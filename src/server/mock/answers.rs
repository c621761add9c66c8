//! What the mock answers, step by step: each function sends one thing, and [`Server::sent`] says what follows once it is written.

use super::ask::{Ask, Shape};
use super::connection::{Answer, Connection, Gone, Phase, Sending, Step, Turn, push};
use super::http::{Head, Refusal, write_answer, write_head, write_stream_head};
use super::ledger::{Arrival, Ending};
use super::pace::Pace;
use super::render::{Plan, Voice, error_json};
use super::server::Server;
use super::settings::{FaultKind, RoleChunk};
use crate::net::clock::{now_ns, wall_ns};
use crate::net::socket::reset_on_close;

const JSON: &str = "application/json";

impl Server {
    /// Answers a request, or begins to.
    pub(super) fn route(&mut self, connection: &mut Connection, head: &Head, body: &[u8]) -> Step {
        // The body of an answer to HEAD would be taken for the next answer.
        connection.close = head.close || head.method == "HEAD";
        let shape = Shape::at(&head.path);
        match (head.method.as_str(), head.path.as_str(), shape) {
            ("POST", _, Some(shape)) => match Ask::read(shape, body, &self.settings) {
                Ok(ask) => self.generate(connection, ask),
                Err(refusal) => self.refuse(connection, &refusal),
            },
            ("GET", "/health", _) => self.plain(connection, 200, "text/plain", "", b""),
            ("GET", "/metrics", _) => {
                let text = self.gauges.prometheus(&self.settings.model, self.settings.kv_tokens);
                self.plain(connection, 200, "text/plain; version=0.0.4; charset=utf-8", "", text.as_bytes())
            }
            ("GET", "/v1/models", _) => {
                let text = serde_json::json!({"object": "list", "data": [
                    {"id": self.settings.model, "object": "model", "created": seconds_now(), "owned_by": "perfprof"},
                ]});
                self.plain(connection, 200, JSON, "", text.to_string().as_bytes())
            }
            ("GET", "/stats", _) => {
                let full = head.query.split('&').any(|part| part == "full=1");
                let text = self.ledger.stats(self.gauges.in_flight, full).to_string();
                self.plain(connection, 200, JSON, "", text.as_bytes())
            }
            ("POST", "/reset", _) => {
                self.ledger.reset(self.settings.most_stamps, self.gauges.in_flight);
                self.plain(connection, 200, JSON, "", b"{}")
            }
            (_, "/health" | "/metrics" | "/v1/models" | "/stats", _) => self.wrong_method(connection, "GET"),
            (_, "/reset", _) | (_, _, Some(_)) => self.wrong_method(connection, "POST"),
            _ => self.refuse(connection, &Refusal::new(404, format!("there is nothing at `{}`", head.path))),
        }
    }

    fn wrong_method(&mut self, connection: &mut Connection, allowed: &str) -> Step {
        self.ledger.refuse();
        let text = error_json(&format!("only {allowed} is allowed here"), "MethodNotAllowed", 405);
        self.plain(connection, 405, JSON, &format!("allow: {allowed}\r\n"), text.as_bytes())
    }

    /// Answers what cannot be answered.
    pub(super) fn refuse(&mut self, connection: &mut Connection, refusal: &Refusal) -> Step {
        self.ledger.refuse();
        let kind = if refusal.status == 404 { "NotFoundError" } else { "BadRequestError" };
        let text = error_json(&refusal.reason, kind, refusal.status);
        self.plain(connection, refusal.status, JSON, "", text.as_bytes())
    }

    fn plain(&mut self, connection: &mut Connection, status: u16, kind: &str, extra: &str, body: &[u8]) -> Step {
        connection.phase = Phase::Answering;
        self.send(connection, Sending::Plain, |out, close| write_answer(out, status, kind, extra, close, body))
    }

    /// Sends what `write` puts into the buffer; it is told whether the connection ends after the answer.
    fn send(&mut self, connection: &mut Connection, sending: Sending, write: impl FnOnce(&mut Vec<u8>, bool)) -> Step {
        self.scratch.clear();
        write(&mut self.scratch, connection.close);
        let at = now_ns();
        let all = push(&connection.stream, &mut connection.out, &self.scratch)?;
        self.pushed(connection, sending, all, at)
    }

    fn pushed(&mut self, connection: &mut Connection, sending: Sending, all: bool, at: u64) -> Step {
        if all {
            return self.sent(connection, sending, at);
        }
        connection.sending = Some(sending);
        self.ledger.block();
        Ok(())
    }

    /// What follows once something was sent, at `at`.
    pub(super) fn sent(&mut self, connection: &mut Connection, sending: Sending, at: u64) -> Step {
        let Some(answer) = &mut connection.answer else {
            return self.done(connection, at);
        };
        match sending {
            Sending::Head { role } => {
                if role {
                    self.ledger.role(answer.ticket, at);
                }
                Ok(())
            }
            Sending::Chunk => {
                let words = answer.plan.words(answer.next);
                answer.next += 1;
                answer.held += u64::from(words);
                self.gauges.kv_used += u64::from(words);
                self.gauges.generation_tokens += u64::from(words);
                self.ledger.sent(answer.ticket, at, words);
                self.proceed(connection)
            }
            Sending::Whole => {
                self.gauges.generation_tokens += u64::from(answer.plan.tokens);
                self.ledger.sent(answer.ticket, at, answer.plan.tokens);
                self.finish(connection, at)
            }
            Sending::Half(kind) => {
                answer.struck = true;
                self.strike(connection, kind)
            }
            Sending::End | Sending::Plain => self.finish(connection, at),
        }
    }

    /// The end of an answer with tokens.
    fn finish(&mut self, connection: &mut Connection, at: u64) -> Step {
        if let Some(answer) = connection.answer.take() {
            self.release(&answer, at, answer.ending());
        }
        self.done(connection, at)
    }

    /// The end of any answer: the connection is free for the next request, or ends.
    fn done(&mut self, connection: &mut Connection, at: u64) -> Step {
        connection.since = at;
        connection.phase = Phase::Reading;
        if connection.close { self.linger(connection) } else { Ok(()) }
    }

    /// Takes up a request for tokens.
    fn generate(&mut self, connection: &mut Connection, ask: Ask) -> Step {
        let number = self.ledger.next_number();
        let fault = self.settings.fault_of(number);
        let plan = Plan::new(&ask, &self.settings);
        // A request that came while the one before it was answered begins when that has ended.
        let request = connection.arrived.max(connection.since);
        self.gauges.in_flight += 1;
        let arrival = Arrival {
            id: ask.shape.id(number),
            streamed: ask.stream,
            chunks: plan.chunks,
            request,
            fault: fault.map(|fault| fault.kind.name()),
        };
        let ticket = self.ledger.arrive(arrival, self.gauges.in_flight);
        connection.phase = Phase::Answering;
        connection.voice.begin(&ask, &plan, number, seconds_now(), self.settings.stamp);
        let (shape, stream) = (ask.shape, ask.stream);
        connection.answer = Some(Answer {
            ask,
            number,
            ticket,
            plan,
            fault,
            struck: false,
            turn: Turn::Aside,
            pace: None,
            next: 0,
            last_due: 0,
            held: 0,
        });
        let kind = fault.map(|fault| fault.kind);
        match kind {
            Some(FaultKind::Http500) => return self.fail(connection, 500, ""),
            Some(FaultKind::Http503) => return self.fail(connection, 503, ""),
            Some(FaultKind::Http429) => return self.fail(connection, 429, "retry-after: 1\r\n"),
            Some(FaultKind::Silent) => {
                if let Some(answer) = &mut connection.answer {
                    answer.struck = true;
                }
                return Ok(());
            }
            _ => {}
        }
        if stream {
            let early =
                shape == Shape::Response || (shape == Shape::Chat && self.settings.role == RoleChunk::Immediate);
            let role = early && kind != Some(FaultKind::Empty);
            let at = now_ns();
            self.scratch.clear();
            write_stream_head(&mut self.scratch, connection.close);
            if role {
                connection.voice.role(&mut self.scratch, at);
            }
            let all = push(&connection.stream, &mut connection.out, &self.scratch)?;
            self.pushed(connection, Sending::Head { role }, all, at)?;
        }
        if self.settings.max_running == 0 || self.gauges.running < self.settings.max_running {
            self.start(connection, request)
        } else {
            if let Some(answer) = &mut connection.answer {
                answer.turn = Turn::Waiting;
            }
            self.gauges.waiting += 1;
            self.waiting.push_back(connection.token);
            Ok(())
        }
    }

    /// Answers with an error in place of tokens.
    fn fail(&mut self, connection: &mut Connection, status: u16, extra: &str) -> Step {
        let text = error_json("the mock server was told to fail here", "InternalServerError", status);
        self.send(connection, Sending::End, |out, close| {
            write_answer(out, status, JSON, extra, close, text.as_bytes());
        })
    }

    /// Begins to work on a request, as of `at`.
    fn start(&mut self, connection: &mut Connection, at: u64) -> Step {
        let Some(answer) = &mut connection.answer else { return Ok(()) };
        let prompt = answer.ask.prompt_tokens;
        let pace = Pace::new(&self.settings, answer.number, at, prompt, answer.plan.chunks);
        (answer.turn, answer.pace, answer.held) = (Turn::Running, Some(pace), prompt);
        self.gauges.running += 1;
        self.gauges.kv_used += prompt;
        self.gauges.prompt_tokens += prompt;
        self.ledger.begin(answer.ticket, pace);
        if answer.ask.stream {
            return self.proceed(connection);
        }
        let due = pace.due(answer.plan.chunks - 1, 0);
        self.arm(connection, due);
        Ok(())
    }

    /// Begins with the requests whose turn it is now.
    pub(super) fn start_waiting(&mut self) {
        while self.gauges.running < self.settings.max_running {
            let Some(token) = self.waiting.pop_front() else { return };
            let Some(mut connection) = self.take(token) else { continue };
            if connection.answer.as_ref().is_some_and(|answer| answer.turn == Turn::Waiting) {
                self.gauges.waiting -= 1;
                // This only sets a timer: an answer has a chunk at least.
                let _ = self.start(&mut connection, now_ns());
            }
            self.put_back(connection);
        }
    }

    /// Sets the time of the next chunk of a stream, or ends it.
    fn proceed(&mut self, connection: &mut Connection) -> Step {
        let Some(answer) = &mut connection.answer else { return Ok(()) };
        let Some(pace) = &answer.pace else { return Ok(()) };
        if answer.next == answer.plan.chunks && answer.fault_now().is_none() {
            return self.end(connection);
        }
        let due = pace.due(answer.next, answer.last_due);
        answer.last_due = due;
        self.arm(connection, due);
        Ok(())
    }

    /// Does what is due for an answer.
    pub(super) fn act(&mut self, connection: &mut Connection) -> Step {
        let Some(answer) = &mut connection.answer else { return Ok(()) };
        if !answer.ask.stream {
            return self.whole(connection);
        }
        self.scratch.clear();
        if answer.meets(FaultKind::Empty) {
            answer.struck = true;
            return self.send(connection, Sending::End, |out, _| out.extend_from_slice(super::http::LAST_CHUNK));
        }
        match answer.fault_now() {
            Some(FaultKind::ErrorEvent) => {
                answer.struck = true;
                let done = self.settings.done && answer.ask.shape != Shape::Response;
                return self.send(connection, Sending::End, |out, _| Voice::error_event(out, done));
            }
            Some(FaultKind::Malformed) => {
                answer.struck = true;
                connection.voice.malformed(&mut self.scratch);
            }
            Some(kind) => {
                answer.struck = true;
                return self.strike(connection, kind);
            }
            None => {}
        }
        if answer.next == answer.plan.chunks {
            return self.end_after(connection);
        }
        let at = now_ns();
        if answer.next == 0 && answer.ask.shape == Shape::Chat && self.settings.role == RoleChunk::First {
            connection.voice.role(&mut self.scratch, at);
            self.ledger.role(answer.ticket, at);
        }
        let bytes = connection.voice.token_chunk(&mut self.scratch, &answer.plan, answer.next, at);
        let all = push(&connection.stream, &mut connection.out, bytes)?;
        self.pushed(connection, Sending::Chunk, all, at)
    }

    /// Ends a stream.
    fn end(&mut self, connection: &mut Connection) -> Step {
        self.scratch.clear();
        self.end_after(connection)
    }

    /// Ends a stream after what is in the buffer.
    fn end_after(&mut self, connection: &mut Connection) -> Step {
        let Some(answer) = &connection.answer else { return Ok(()) };
        let done = self.settings.done && !answer.meets(FaultKind::NoDone);
        let at = now_ns();
        connection.voice.tail(&mut self.scratch, &answer.plan, at, done);
        let all = push(&connection.stream, &mut connection.out, &self.scratch)?;
        self.pushed(connection, Sending::End, all, at)
    }

    /// Sends an answer that is no stream, or what a fault leaves of it.
    fn whole(&mut self, connection: &mut Connection) -> Step {
        let Some(answer) = &mut connection.answer else { return Ok(()) };
        let kind = answer.fault.map(|fault| fault.kind);
        let mut body = connection.voice.whole(&answer.plan, now_ns());
        match kind {
            Some(kind @ (FaultKind::Cut | FaultKind::Reset | FaultKind::Stall)) => {
                return self.send(connection, Sending::Half(kind), |out, close| {
                    write_head(out, 200, JSON, "", close, body.len());
                    out.extend_from_slice(&body[..body.len() / 2]);
                });
            }
            Some(FaultKind::Empty) => body.clear(),
            Some(FaultKind::Malformed) => body.truncate(body.len() / 2),
            Some(FaultKind::ErrorEvent) => {
                body = error_json("the mock server was told to fail here", "InternalServerError", 500).into_bytes();
            }
            _ => {
                return self
                    .send(connection, Sending::Whole, |out, close| write_answer(out, 200, JSON, "", close, &body));
            }
        }
        self.send(connection, Sending::End, |out, close| write_answer(out, 200, JSON, "", close, &body))
    }

    /// Lets a fault end an answer in the middle.
    fn strike(&mut self, connection: &mut Connection, kind: FaultKind) -> Step {
        match kind {
            FaultKind::Cut => {
                if let Some(answer) = connection.answer.take() {
                    self.release(&answer, now_ns(), Ending::Fault);
                }
                self.linger(connection)
            }
            FaultKind::Reset => {
                reset_on_close(&connection.stream).map_err(|_| Gone)?;
                Err(Gone)
            }
            // It stays as it is until the client goes.
            _ => Ok(()),
        }
    }
}

fn seconds_now() -> u64 {
    wall_ns() / 1_000_000_000
}
