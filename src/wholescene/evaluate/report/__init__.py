"""The report of a run or evaluation: one HTML page."""

from wholescene.evaluate.report.page import REPORT_HTML, build_report

__all__ = ["REPORT_HTML", "build_report"]
