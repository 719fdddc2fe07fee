# SPDX-License-Identifier: Apache-2.0
"""Which runs are made of whom, in which order, and why some are not."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
from experiments import EXPERIMENTS, HOST, Experiment, Images, Missing, place_of
from rows import Row

STATIC = "vmm-static"  # is beside vmm


class Record:
    """One run of one subject."""

    def __init__(self, experiment: Experiment, subject: str, job: dict):
        self.experiment, self.subject, self.job = experiment, subject, job
        self.result: dict = {}
        self.aside = bool(job.get("warm_up") or job.get("traced")) or subject == "native"


def find_peers(given: list[str], vmm: Path) -> dict[str, str]:
    """Program of each family that is there."""
    found = {"vmm": str(vmm)}
    for kind in peers.FAMILIES:
        program = shutil.which(peers.PROGRAMS.get(kind, kind))
        if program and kind != "vmm":
            found[kind] = program
    for text in given:
        kind, _, path = text.partition("=")
        if kind not in peers.FAMILIES or kind == "vmm" or not path:
            known = ", ".join(kind for kind in peers.FAMILIES if kind != "vmm")
            raise ValueError(f"--peer {text}: say one of {known}, =, a path")
        program = shutil.which(path)
        if not program:
            raise ValueError(f"--peer {text}: there is no such program")
        found[kind] = program
    if (static := vmm.with_name(STATIC)).exists():
        found[STATIC] = str(static)
    return {kind: os.path.abspath(path) for kind, path in found.items()}


class Plan:
    """All runs, in the order in which they are made: the subjects of an experiment take turns, and take turns at being
    the first, as what was measured before may help or hinder."""

    def __init__(self, rows: list[Row], programs: dict[str, str], images: Images, runs: Callable[[str], int],
                 quick: bool = False, all_counted: bool = False, lab_cpus: int = 1):
        self.all_counted, self.lab_cpus = all_counted, lab_cpus
        self.missing: dict[tuple[str, str], str] = {}  # experiment, subject: why it is not measured
        self.records: list[Record] = []
        wanted = {name for row in rows for name in (row.experiment, row.against) if name}
        todo = [experiment for name, experiment in EXPERIMENTS.items() if name in wanted]
        # A peers' experiment runs whole even if only its reference is needed: ratios want all in one run.
        jobs: dict[str, dict] = {}
        subjects: dict[str, list[tuple[str, str, str]]] = {}
        for experiment in todo:
            subjects[experiment.name] = list(self._subjects(experiment, programs, quick))
            if STATIC in experiment.ours and STATIC not in programs:
                self.missing[experiment.name, STATIC] = f"there is no {STATIC} beside vmm"
            try:
                if quick and not experiment.quick:
                    raise Missing("left out by --quick")
                jobs[experiment.name] = self._reduced(experiment.job(images), experiment, rows, quick)
            except Missing as missing:
                for subject, _, _ in subjects[experiment.name]:
                    self.missing[experiment.name, subject] = str(missing)
        todo = [experiment for experiment in todo if experiment.name in jobs]
        for experiment in todo:
            if experiment.warm_up:
                for subject, _, path in subjects[experiment.name]:
                    if subject == experiment.ours[0] or experiment.place == HOST:
                        self._add(experiment, subject, path, jobs[experiment.name] | {"warm_up": True})
        for turn in range(max((runs(self.place(experiment)) for experiment in todo), default=0)):
            for experiment in todo:
                if turn < runs(self.place(experiment)):
                    listed = subjects[experiment.name]
                    first = turn % len(listed)
                    for subject, _, path in listed[first:] + listed[:first]:
                        self._add(experiment, subject, path, jobs[experiment.name])
                    if experiment.native:
                        job = {name: jobs[experiment.name][name] for name in ("steps", "share")}
                        self.records.append(Record(experiment, "native", job | {"kind": "native",
                                                                                "path": sys.executable}))
        for experiment in todo:
            for row in rows:
                if row.experiment == experiment.name and row.limit == "guest_seconds" and not quick:
                    self._add(experiment, row.ours, programs["vmm"], jobs[experiment.name] | {"traced": True})

    def place(self, experiment: Experiment) -> str:
        return place_of(experiment, self.all_counted)

    @staticmethod
    def _reduced(job: dict, experiment: Experiment, rows: list[Row], quick: bool) -> dict:
        if "steps" not in job:
            return job
        asked = {row.metric.partition(".")[0] for row in rows if row.experiment == experiment.name}
        return job | {"steps": [step for step in job["steps"] if step in asked], "share": 0.25 if quick else 1}

    @staticmethod
    def _subjects(experiment: Experiment, programs: dict[str, str], quick: bool) -> Iterator[tuple[str, str, str]]:
        for subject in experiment.ours:
            if subject != STATIC or STATIC in programs:
                yield subject, "vmm", programs.get(subject, programs["vmm"])
        if experiment.peers:
            for kind, path in programs.items():
                if kind not in ("vmm", STATIC):
                    for subject in peers.names(kind):
                        if subject not in experiment.without and not (quick and subject in experiment.not_quick):
                            yield subject, kind, path

    def _add(self, experiment: Experiment, subject: str, path: str, job: dict) -> None:
        peer = peers.make(subject, path)
        lacking = peer.lacks(peers.Guest.of(job["guest"])) if "guest" in job else ""
        if lacking:
            self.missing[experiment.name, subject] = lacking
        else:
            self.records.append(Record(experiment, subject, job | {"peer": subject, "path": path}))
