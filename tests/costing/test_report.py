"""The report is one self-contained page that shows both sides and the source of every constant."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from support.networks import random_network, random_spikes

from lbi import CsrMatrix, CubaLif, Network, Population, Projection, Readout, quantize
from lbi.costing.estimation import estimate
from lbi.costing.report.figures import budget_note, headline
from lbi.costing.report.html import render, write_report
from lbi.costing.report.terms import OF_LINE, TERMS, explanation
from lbi.costing.result import Estimate

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def an_estimate(chip: str = "loihi1", seed: int = 0, measured: bool = True) -> Estimate:
    rng = np.random.default_rng(seed)
    fixed = quantize(random_network(rng, recurrent=True), chip)
    return estimate(fixed, spikes=random_spikes(rng, 3, 8, fixed.n_in) if measured else None)


class Page(HTMLParser):
    """Checks that tags close in order; keeps text and addresses."""

    VOID = frozenset({"meta", "img", "br", "wbr", "col", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href", "xlink:href"} and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href", "xlink:href"} and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def loihi1() -> tuple[Estimate, str, Page]:
    found = an_estimate()
    html = render([found], ["digits"])
    return found, html, Page(html)


def test_the_page_fetches_nothing(loihi1):
    _, html, page = loihi1
    for address in page.addresses:
        assert address.startswith(("data:image/png;base64,", "#")), address[:60]
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.findall(r"url\((?!#)[^)]*\)|@import", html)


def test_every_constant_is_there_with_source_and_confidence(loihi1):
    found, _, page = loihi1
    constants = found.to_dict()["constants"]
    assert len(constants) > 50
    for constant in constants:
        assert constant["name"] in page.words.replace(". ", "."), constant["name"]
        assert constant["source"] in page.words
        if constant["note"]:
            assert " ".join(constant["note"].split()) in page.words
    for key, reference in found.profile.sources.items():
        assert f"{key} {reference}" in page.words


def test_it_shows_both_sides_and_what_remains(loihi1):
    found, _, page = loihi1
    for words in (
        "SynOps fetched",
        "Every neuron that is left is updated",
        "How it was measured",
        "Where the energy goes",
        "Synaptic operations over time",
        "Where the weights are",
        "Cores of the sparse network",
        "The busiest core sets the time",
        "What to save next",
        "Static power, not included above: 104 mW/chip (32-chip system, idle power of all chips)",
        "static energy",
        found.basis,
    ):
        assert words in page.words, words
    assert found.sparse.placement.n_cores == 1
    assert page.tags.count("svg") == 5  # synops, energy, parts, projections, cores; loads with several cores
    assert page.tags.count("img") == len(found.fixed.projections)


def test_every_line_of_the_table_and_every_term_is_explained(loihi1):
    found, html, page = loihi1
    plain = {"host_memory", "time"}
    for one in (found, an_estimate("loihi2")):
        assert {line.key for line in headline(one) if not explanation(line.key)} == plain
    assert set(OF_LINE.values()) <= set(TERMS)
    assert all(f"{term} {text}" in page.words for term, text in TERMS.items())
    assert f'<abbr title="{TERMS["message"]}">messages' in html


def test_the_cards_say_what_the_table_says(loihi1):
    found, _, page = loihi1
    updates = next(line for line in headline(found) if line.key == "neuron_updates")
    card = (
        f"{updates.ratio} neuron updates, dense / sparse {updates.sparse} per timestep, dense {updates.dense}"
    )
    assert card in page.words


def test_several_cores_are_drawn_from_the_busiest_to_the_idlest():
    weights = CsrMatrix.from_dense(np.eye(1100, 40))
    output = Population("output", (1100,), CubaLif(0.5, 0.1, 1.0))
    network = Network((40,), (output,), (Projection("p", "input", "output", weights),), Readout("output"))
    found = estimate(quantize(network, "loihi1"), spikes=np.ones((2, 4, 40), np.uint8))
    assert found.sparse.placement.n_cores == 2
    page = Page(render([found], ["wide"]))
    assert page.tags.count("svg") == 6
    assert "cores; core 0 first" in page.words


def test_loihi_2_shows_no_joule_without_its_label():
    page = Page(render([an_estimate("loihi2")], ["digits"]))
    assert "not published" in page.words
    assert "what-if: Loihi-1-constant proxy (not a Loihi 2 figure)" in page.words


def test_several_are_compared():
    page = Page(render([an_estimate(seed=1), an_estimate(seed=1)], ["adam", "adabreg"]))
    assert "adam against adabreg" in page.words
    assert "adam / adabreg" in page.words
    assert page.words.count("Every constant of") == 1


def test_without_input_the_page_says_worst_case():
    page = Page(render([an_estimate(measured=False)], ["digits"]))
    assert "worst case" in page.words
    assert "Synaptic operations over time" not in page.words


def test_names_are_escaped():
    assert "<script>" not in render([an_estimate(seed=2)], ["<script>alert(1)</script>"])


def test_the_same_estimate_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.html", "b.html")]
    for path in paths:
        write_report(path, [an_estimate(seed=3)], ["digits"])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_recorded_budget_is_shown_and_damaged_entries_are_not():
    use = {"limit": 40.0, "used": 38.21, "unit": "nJ", "met": True, "costs": "davies2018"}
    budget = {"energy": use, "cores": {"limit": 1, "used": None, "unit": "", "met": False}}
    damaged = {"time": 3, "synops": use | {"limit": "40"}, "memory": use | {"met": 1}, "x\n": use}
    estimate = an_estimate()
    fixed = dataclasses.replace(estimate.fixed, provenance={"training": {"budget": budget | damaged}})
    estimate = dataclasses.replace(estimate, fixed=fixed)
    shown = "cores no placement of 1, NOT MET; energy 38.21 of 40 nJ (davies2018), met"
    assert budget_note(estimate) == f"Trained to a budget (use on the training samples): {shown}"
    page = Page(render([estimate], ["digits"])).words
    assert "cores 1 does not fit the chip NOT MET energy (davies2018) 40 nJ 38.21 nJ 95.5% met" in page
    assert estimate.to_dict()["budget"] == budget
    for provenance in ({}, {"training": 3}, {"training": {"budget": None}}, {"training": {"budget": [1]}}):
        plain = dataclasses.replace(estimate, fixed=dataclasses.replace(fixed, provenance=provenance))
        assert (budget_note(plain), plain.to_dict()["budget"]) == ("", None)
