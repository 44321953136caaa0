import http.client
import urllib.error
import urllib.request

import pytest

from analysis.page.watch import VERSION, Watched, served


@pytest.mark.slow
def test_the_served_page_follows_the_study(studies):
    path = studies.of(studies.trial(0, state="FAILED", error="<i>broken</i>"))
    watched = Watched(path)
    assert watched.renew()
    with served(watched) as address:
        with urllib.request.urlopen(address) as answer:
            first, text = answer.headers[VERSION], answer.read().decode()
        assert "no finished trial" in text and "<i>" not in text
        assert not watched.renew()
        studies.of(studies.trial(0, state="FAILED"), studies.trial(1, val_accuracy=0.75))
        assert watched.renew()
        with urllib.request.urlopen(address) as answer:
            assert answer.headers[VERSION] != first
            assert answer.read() == (path / "report" / "report.html").read_bytes()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + "spec.yaml")


def test_who_asks_by_another_name_gets_nothing(studies):
    with served(Watched(studies.of(studies.trial(0)))) as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))
        connection.request("GET", "/", headers={"Host": "elsewhere.example:80"})
        assert connection.getresponse().status == 404
        connection.close()
