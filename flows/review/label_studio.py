"""Tasks for Label Studio, and its annotations back (https://labelstud.io/guide/task_format).

A task is one value, with the crop inside it, so that no server has to hand out pictures. `CONFIG` is the labelling
interface that shows it.
"""

from __future__ import annotations

import base64
from typing import Any

from swath.flows.review.crops import Crop
from swath.flows.review.desk import Row
from swath.schemas.errors import ConfigurationError

CONFIG = """<View>
  <Header value="$question"/>
  <Text name="document" value="$source"/>
  <Image name="page" value="$image" zoom="true"/>
  <RectangleLabels name="box" toName="page"><Label value="value"/></RectangleLabels>
  <Header value="The right value"/>
  <TextArea name="after" toName="document" value="$value" rows="1" maxSubmissions="1" editable="true"/>
  <Choices name="decision" toName="document" choice="single">
    <Choice value="confirmed"/><Choice value="corrected"/><Choice value="absent"/>
  </Choices>
  <TextArea name="why" toName="document" placeholder="Why" rows="1" maxSubmissions="1"/>
</View>
"""
_PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
"""What is shown where the source has no picture (any more)."""
_SHOWN = ("review_id", "pipeline", "item_id", "page", "reason", "field", "path", "confidence", "etag")


def task(row: Row, crop: Crop | None) -> dict[str, Any]:
    """A value to be decided as a task, its machine's value and box as a prediction."""
    data = {name: row[name] for name in _SHOWN} | {
        "question": f"{row['field']}: {row['reason']} ({row['detail'] or 'see the picture'})",
        "source": row["source_uri"],
        "value": row["value"] or "",
        "image": f"data:image/jpeg;base64,{base64.b64encode(crop.jpeg).decode()}" if crop else _PIXEL,
    }
    result: list[dict[str, Any]] = []
    if row["value"] is not None:
        text = {"id": "after", "from_name": "after", "to_name": "document", "type": "textarea"}
        result.append({**text, "value": {"text": [row["value"]]}})
    if crop and crop.box:
        left, top, right, bottom = crop.box
        share = {
            "x": 100 * left / crop.width,
            "y": 100 * top / crop.height,
            "width": 100 * (right - left) / crop.width,
            "height": 100 * (bottom - top) / crop.height,
        }
        box = {"id": "box", "from_name": "box", "to_name": "page", "type": "rectanglelabels", "image_rotation": 0}
        box |= {"original_width": crop.width, "original_height": crop.height}
        result.append({**box, "value": {**share, "rotation": 0, "rectanglelabels": ["value"]}})
    prediction = {"model_version": row["fingerprint"], "score": row["confidence"], "result": result}
    return {"data": data, "predictions": [prediction] if result else []}


def answer(task: dict[str, Any], place: str) -> Row | None:
    """What the latest annotation of a task decides; None where there is none. Raises ConfigurationError."""
    try:
        data = task["data"]
        made = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
        if not made:
            return None
        latest = max(made, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
        said = {one["from_name"]: one["value"] for one in latest["result"] if one["from_name"] != "box"}
        after = " ".join(said["after"]["text"]).strip() if "after" in said else None
        decision = said["decision"]["choices"][0] if "decision" in said else None
        why = " ".join(said["why"]["text"]) if "why" in said else None
        who = latest.get("completed_by")
        row = {"review_id": data["review_id"], "etag": data.get("etag"), "why": why}
        row["by"] = who["email"] if isinstance(who, dict) else None  # a bare number names nobody outside Label Studio
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigurationError(
            f"{place}: no task of ours as Label Studio exports it ({error!r}); export as JSON, not JSON-MIN"
        ) from None
    if decision is None and after is not None and after == (data.get("value") or ""):
        decision = "confirmed"
    return row | {"decision": decision, "after": None if decision in ("absent", "confirmed") else after}
