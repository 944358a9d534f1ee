"""Plays the conversations of an ADK eval set, and compares them with what the set expects.

ADK's own service for it asks for the packages of google-adk[eval], Google Cloud's among them; its
format and its evaluator of tool calls do not.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from google.adk.apps import App
from google.adk.evaluation.eval_case import (
    EvalCase,
    IntermediateData,
    Invocation,
    get_all_tool_calls,
)
from google.adk.evaluation.eval_metrics import EvalMetric, ToolTrajectoryCriterion
from google.adk.evaluation.eval_set import EvalSet
from google.adk.evaluation.trajectory_evaluator import TrajectoryEvaluator
from google.adk.sessions import InMemorySessionService
from google.genai import types
from pydantic import ValidationError

from agents import embedded
from agents.running import run
from inference.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.adk.evaluation.evaluator import EvaluationResult

Match = ToolTrajectoryCriterion.MatchType
THRESHOLD = 1.0


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: Its name.
        trajectory: Share of its messages after which the expected tools were called.
        missing: What the answers were expected to contain, and do not.
        calls: What was called, where something else was expected.
    """

    case: str
    trajectory: float
    missing: list[str]
    calls: list[str]

    @property
    def passed(self) -> bool:
        """Whether all is as it was expected."""
        return self.trajectory >= THRESHOLD and not self.missing


def read_set(file: Path) -> EvalSet:
    """Read an eval set.

    Raises:
        AgentError: The file is none.
    """
    try:
        return EvalSet.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AgentError(f"{file} is no eval set of ADK's: {reason}") from error


def evaluator(model: str) -> TrajectoryEvaluator:
    """Return what compares tool calls.

    The rules must call what is expected and nothing else, with the same arguments. A model that
    is free to word its queries, and to search twice, must call the same tools in this order.
    """
    rules = model == embedded.NAME
    criterion = ToolTrajectoryCriterion(
        threshold=THRESHOLD,
        match_type=Match.EXACT if rules else Match.IN_ORDER,
        ignore_args=not rules,
    )
    return TrajectoryEvaluator(
        eval_metric=EvalMetric(metric_name="tool_trajectory_avg_score", criterion=criterion)
    )


async def evaluate(case: EvalCase, app: App, judge: TrajectoryEvaluator) -> Outcome:
    """Play one case in a session of its own.

    Raises:
        RookeryError: The application could not answer.
    """
    sessions, state = InMemorySessionService(), case.session_input and case.session_input.state
    expected = case.conversation or []
    actual = [await play(turn, app, sessions, state) for turn in expected]
    # the evaluators that need no model return their result at once
    result = cast("EvaluationResult", judge.evaluate_invocations(actual, expected))
    missing = [
        line
        for told, wanted in zip(actual, expected, strict=True)
        for line in text(wanted.final_response).splitlines()
        if line not in text(told.final_response)
    ]
    wrong = [
        f"{call.name}({', '.join(map(str, (call.args or {}).values()))})"
        for turn in result.per_invocation_results
        if turn.score != THRESHOLD
        for call in get_all_tool_calls(turn.actual_invocation.intermediate_data)
    ]
    return Outcome(case.eval_id, result.overall_score or 0.0, missing, wrong)


async def play(
    turn: Invocation, app: App, sessions: InMemorySessionService, state: dict | None
) -> Invocation:
    """Send the message of a turn; returns what was called and answered."""
    told = await run(app, text(turn.user_content), sessions=sessions, state=state)
    calls = [types.FunctionCall(name=name, args=arguments) for name, arguments in told.calls]
    return Invocation(
        user_content=turn.user_content,
        final_response=types.Content(role="model", parts=[types.Part(text=told.text)]),
        intermediate_data=IntermediateData(tool_uses=calls),
    )


def text(content: types.Content | None) -> str:
    """Return the text of a message."""
    parts: Sequence[types.Part] = (content and content.parts) or []
    return "".join(part.text or "" for part in parts)
