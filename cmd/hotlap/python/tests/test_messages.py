import pickle
import unittest
from datetime import timedelta
from typing import Any, List, Union

import hotlap
from hotlap import Headers, Request
from hotlap._messages import HeaderTypes, header_lines

from .support import TestCase, run, target


class HeadersTest(unittest.TestCase):
    def test_any_case(self) -> None:
        h = Headers.parse(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-A:1\r\nx-a: 2 \r\nLatin: \xe9\r\n\r\n")
        self.assertEqual(h["content-TYPE"], "text/html")
        self.assertEqual(h["X-a"], "1, 2")
        self.assertEqual(h.get_list("x-A"), ["1", "2"])
        self.assertEqual(h["latin"], "\xe9")
        self.assertEqual(list(h), ["content-type", "x-a", "latin"])
        self.assertEqual(len(h), 3)
        self.assertIn("CONTENT-type", h)
        self.assertNotIn("accept", h)
        self.assertNotIn(1, h)
        self.assertEqual(h.get("accept", "none"), "none")
        self.assertEqual(h.multi_items()[1:3], [("X-A", "1"), ("x-a", "2")])
        with self.assertRaises(KeyError):
            h["accept"]


class RequestTest(unittest.TestCase):
    def test_bodies(self) -> None:
        r = Request("POST", "http://a/", json={"a": ["\xe9"]})
        self.assertEqual((r.content, r.headers), ('{"a":["\xe9"]}'.encode(), {"Content-Type": "application/json"}))
        r = Request("POST", "http://a/", data={"a": [1, 2], "b": "x y"}, headers={"content-type": "other"})
        self.assertEqual((r.content, r.headers), (b"a=1&a=2&b=x+y", {"content-type": "other"}))
        self.assertEqual(Request("POST", "http://a/", content="\xe9").content, b"\xc3\xa9")
        words = memoryview(b"abcdefgh").cast("I")  # two, of four bytes
        for content in (bytearray(b"abcdefgh"), words):
            self.assertEqual(Request("POST", "http://a/", content=content).content, b"abcdefgh")
        r = Request("POST", "http://a/", data=[("a", 1), ("a", 2)])
        self.assertEqual(r.content, b"a=1&a=2")
        raws: List[Union[str, bytes]] = ["\xe9", "\xe9".encode()]
        for raw in raws:
            r = Request("POST", "http://a/", data=raw)
            self.assertEqual((r.content, r.headers), (b"\xc3\xa9", {}))
        with self.assertRaises(ValueError):
            Request("POST", "http://a/", json=1, content=b"")
        bad: List[Any] = [5, [1], iter([b"a"])]
        for what in bad:
            with self.assertRaisesRegex(TypeError, "want bytes"):
                Request("POST", "http://a/", content=what)
        with self.assertRaisesRegex(TypeError, "want a str"):
            Request("GET", bad[0])

    def test_method_in_capitals(self) -> None:
        self.assertEqual(Request("get", "http://a/").method, "GET")

    def test_no_passwords_and_no_line_breaks_in_logs(self) -> None:
        self.assertEqual(repr(Request("GET", "http://u:secret@a/\r\n\udc80")), "<Request GET http://***@a/\\r\\n\\udc80>")

    def test_params(self) -> None:
        self.assertEqual(Request("GET", "http://a/?x=1#f", params={"y": [2, 3]}).url, "http://a/?x=1&y=2&y=3#f")
        self.assertEqual(Request("GET", "http://a/", params={"y": "a b"}).url, "http://a/?y=a+b")
        self.assertEqual(Request("GET", "http://a/", params=[("y", 2), ("x", 1), ("y", 3)]).url, "http://a/?y=2&x=1&y=3")
        self.assertEqual(Request("GET", "http://a/?x=1", params="y=a%20b").url, "http://a/?x=1&y=a%20b")

    def test_no_header_injection(self) -> None:
        bad: List[HeaderTypes] = [{"A": "1\r\nB: 2"}, {"A\r\nB": "1"}, {"A: 1": "2"}, {"A": ["1", "\n"]}]
        for headers in bad:
            with self.assertRaises(ValueError):
                header_lines(headers)

    def test_header_lines(self) -> None:
        self.assertEqual(header_lines({"A": "\xe9", "B": "\u65e5", "C": ["1", "2"], "D": None}),
                         b"A: \xe9\r\nB: \xe6\x97\xa5\r\nC: 1\r\nC: 2\r\nD\r\n")  # fmt: skip
        pairs: HeaderTypes = [("A", "1"), ("B", "2"), ("A", ["3", "4"]), ("C", None), ("D", None), ("D", "5")]
        self.assertEqual(header_lines(pairs), b"A: 1\r\nA: 3\r\nA: 4\r\nB: 2\r\nC\r\nD: 5\r\n")
        self.assertEqual(Request("GET", "http://a/", headers=pairs).headers["A"], ["1", "3", "4"])

    def test_times(self) -> None:
        for timeout in (0, -1, float("nan")):
            with self.assertRaises(ValueError):
                Request("GET", "http://a/", timeout=timeout)
        with self.assertRaisesRegex(TypeError, "want seconds"):
            Request("GET", "http://a/", timeout="1")  # type: ignore[arg-type]


class ResponseTest(TestCase):
    def test_as_people_know_it(self) -> None:
        async def main() -> None:
            async with hotlap.Client() as c:
                r = await c.get(target() + "/echo", params={"q": "1"}, headers={"X-A": ["1", "2"], "User-Agent": None})
                self.assertEqual((r.status_code, r.reason_phrase, r.http_version), (200, "OK", "HTTP/1.1"))
                self.assertEqual(r.headers["content-length"], str(len(r.content)))
                echo = r.json()
                self.assertEqual(echo["target"], "/echo?q=1")
                self.assertEqual(echo["headers"].get("x-a"), ["1", "2"])
                self.assertNotIn("user-agent", echo["headers"])
                self.assertEqual(r.text.encode(), r.content)
                self.assertTrue(r.is_success)
                self.assertFalse(r.truncated)
                self.assertIsNone(r.error)
                self.assertIs(r.raise_for_status(), r)
                self.assertEqual(r.attempts, 1)
                self.assertEqual("http://" + r.remote, target())
                self.assertEqual(r.body_bytes, len(r.content))
                self.assertTrue(timedelta(0) < r.elapsed < timedelta(seconds=60))
                self.assertAlmostEqual(r.times.total, r.elapsed.total_seconds())
                self.assertEqual(r.request.method, "GET")
                self.assertTrue(r.raw_head.startswith(b"HTTP/1.1 200 OK\r\n") and r.raw_head.endswith(b"\r\n\r\n"))

        run(main())

    def test_encoding(self) -> None:
        for content_type, body, text in (
            ("text/plain", "\xe9".encode(), "\xe9"),
            ("text/plain; Charset=\"latin-1\"", b"\xe9", "\xe9"),
            ("text/plain; charset=no-such", b"\xc3\xa9\xff", "\xe9\ufffd"),
            ("text/plain; charset=idna", b"\xc3\xa9\xff", "\xe9\ufffd"),
            ("text/plain; charset=hex", b"\xc3\xa9\xff", "\xe9\ufffd"),
        ):
            r = hotlap.Response.__new__(hotlap.Response)
            r._head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode()
            r._head_size, r._message_size, r._kind, r.content = len(r._head), 0, 0, body
            self.assertEqual(r.text, text)

    def test_status_errors(self) -> None:
        async def main() -> None:
            async with hotlap.Client() as c:
                r = await c.get(target() + "/status/404")
                self.assertFalse(r.is_success)
                with self.assertRaises(hotlap.StatusError) as caught:
                    r.raise_for_status()
                self.assertIs(caught.exception.response, r)
                self.assertIn("404", str(caught.exception))
                failed = [r async for r in c.stream(["http://u:secret@"])][0]
                assert failed.error is not None
                errors: List[Union[hotlap.StatusError, hotlap.RequestError]] = [caught.exception, failed.error]
                for e in errors:
                    again = pickle.loads(pickle.dumps(e))  # as to come back from another process
                    self.assertEqual((type(again), str(again)), (type(e), str(e)))
                    self.assertEqual(again.response.status_code, e.response.status_code)
                    self.assertNotIn("secret", str(e))

        run(main())


if __name__ == "__main__":
    unittest.main()
