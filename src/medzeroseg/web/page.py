"""The page: what is shown, and what happens on a click."""

import logging
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from medzeroseg.errors import MedZeroSegError
from medzeroseg.imaging import InputError
from medzeroseg.web.service import Answer, Row, Service

LOG = logging.getLogger(__name__)

TITLE = "MedZeroSeg"
_BY_HEADER = "by the file (or any)"
_KEPT_S = 900
"""How long a session's upload and answer stay in memory."""
_INTRO = """\
# MedZeroSeg
Name structures in words and see where the model finds them. Everything stays on the machine that serves this page.
**Research software, not a medical device.**
"""
CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
#status { min-height: 1.6em; }
#status .fault { color: #b3261e; font-weight: 600; }
.dark #status .fault { color: #ffb4ab; }
#found table { width: 100%; border-collapse: collapse; border: 0 !important; }
#found th, #found td { text-align: left; vertical-align: top; padding: .5em .8em .5em 0 !important;
  border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; overflow-wrap: anywhere; }
#found td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
#found i { display: inline-block; width: .9em; height: .9em; margin-right: .5em; border: 1px solid #0008;
  border-radius: 2px; vertical-align: -.1em; }
#found .muted { color: var(--body-text-color-subdued); }
"""
THEME: dict[str, Any] = {
    # plain names: gradio's own fonts would be looked for elsewhere
    "font": ["system-ui", "sans-serif"],
    "font_mono": ["ui-monospace", "monospace"],
}


def build_page(service: Service) -> gr.Blocks:
    """The page over a service.

    Args:
        service: With a loaded model.
    """
    actions = _Actions(service)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        upload, answer = gr.State(time_to_live=_KEPT_S), gr.State(time_to_live=_KEPT_S)
        gr.Markdown(_INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                file = gr.File(label="Image: PNG, JPEG or DICOM", elem_id="image", height=200)
                modality = gr.Dropdown([_BY_HEADER, *service.modalities], value=_BY_HEADER, label="Kind of image")
                words = gr.Textbox(
                    label="What to look for, one structure a line",
                    placeholder="left ventricle\nmyocardium",
                    lines=4,
                    max_lines=12,
                    elem_id="words",
                )
                button = gr.Button("Segment", variant="primary", elem_id="segment")
                status = gr.HTML("", elem_id="status")
            with gr.Column(scale=3, min_width=300), gr.Tabs():
                with gr.Tab("Masks"):
                    overlay = _picture("masks", "The image under its masks")
                    shown = gr.CheckboxGroup([], label="Shown", visible=False, elem_id="shown")
                with gr.Tab("Saliency"):
                    saliency = _picture("saliency", "The image under the saliency of a structure")
                    structure = gr.Radio([], label="Structure", visible=False, elem_id="structure")
        table = gr.HTML("", elem_id="found")
        files = gr.File(label="Download", file_count="multiple", interactive=False, visible=False, elem_id="files")
        private: dict[str, Any] = {"api_visibility": "private"}
        file.upload(actions.take, file, [upload, status], **private)
        file.clear(lambda: (None, ""), None, [upload, status], **private)
        outputs = [status, overlay, shown, saliency, structure, table, files, answer]
        button.click(actions.segment, [upload, words, modality], outputs, **private)
        shown.input(actions.show, [answer, shown], overlay, show_progress="hidden", **private)
        structure.input(actions.show_saliency, [answer, structure], saliency, show_progress="hidden", **private)
    page.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    return page


def _picture(name: str, text: str) -> gr.Image:
    return gr.Image(
        format="png",
        interactive=False,
        show_label=False,
        buttons=["fullscreen"],
        elem_id=name,
        alt_text=text,
        height=440,
    )


class _Actions:
    def __init__(self, service: Service) -> None:
        self.service = service

    def take(self, path: str) -> tuple[bytes, str]:
        """Read an upload and remove it from the disk."""
        try:
            return Path(path).read_bytes(), "<p>Image read.</p>"
        finally:
            Path(path).unlink(missing_ok=True)

    def segment(self, image: bytes | None, words: str, modality: str) -> tuple[Any, ...]:
        """Everything that the page shows of an answer, or what was wrong."""
        try:
            if not image:
                raise InputError("Drop an image first")
            answer = self.service.segment(image, words or "", None if modality == _BY_HEADER else modality)
        except (MedZeroSegError, InputError) as fault:
            return _fault(str(fault))
        except Exception as error:
            LOG.exception("a request failed")
            return _fault(f"The server could not do this ({type(error).__name__}); its log says more")
        rows = answer.rows
        found = [row for row in rows if row.label.found]
        choices = [(_name(row), row.label.label) for row in rows]
        return (
            f"<p>{escape(_summary(answer, rows))}</p>",
            answer.overlay(),
            gr.update(
                choices=[(_name(row), row.label.label) for row in found],
                value=[row.label.label for row in found],
                visible=bool(found),
            ),
            answer.saliency(rows[0].label.label),
            gr.update(choices=choices, value=rows[0].label.label, visible=True),
            _table(rows),
            gr.update(value=[str(path) for path in answer.files], visible=True),
            answer,
        )

    def show(self, answer: Answer | None, shown: list[int]) -> Any:  # noqa: ANN401 - a picture or gradio's update
        """The masks that are ticked."""
        return gr.skip() if answer is None else answer.overlay(shown)

    def show_saliency(self, answer: Answer | None, structure: int) -> Any:  # noqa: ANN401
        """The map of a structure."""
        return gr.skip() if answer is None else answer.saliency(structure)


def _fault(text: str) -> tuple[Any, ...]:
    """The message alone; what an earlier image showed is taken away with it."""
    return (
        f'<p class="fault" role="alert">{escape(text)}</p>',
        None,
        gr.update(choices=[], value=[], visible=False),
        None,
        gr.update(choices=[], value=None, visible=False),
        "",
        gr.update(value=None, visible=False),
        None,
    )


def _name(row: Row) -> str:
    return f"{row.label.label} {row.label.text}"


def _summary(answer: Answer, rows: tuple[Row, ...]) -> str:
    count = sum(row.label.found for row in rows)
    said = "Nothing found." if not count else f"{count} of {len(rows)} found."
    view, depth = answer.result.view, len(answer.result.view_labels)
    where = f" Slice {answer.slice_number + 1} of {depth}." if depth > 1 else ""
    seconds = sum(answer.result.seconds.values())
    return f"{said}{where} Kind of image: {view.modality}; {seconds:.1f} s."


def _table(rows: tuple[Row, ...]) -> str:
    lines = []
    for row in rows:
        colour = f'<i style="background: rgb{row.colour}"></i>'
        size = escape(row.size) if row.label.found else f'<span class="muted">not found: {escape(row.note)}</span>'
        lines.append(
            f"<tr><td>{colour}{row.label.label} {escape(row.label.text)}</td><td>{size}</td>"
            f'<td class="number">{escape(row.score)}</td></tr>'
        )
    head = "<tr><th>Structure</th><th>Size</th><th>Score</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"
