"""Why a name is answered as it is.  Pure: the model of the reader over entries, and the objects behind."""

from kube2etcd.inspect.explain.explainer import (
    TYPES,
    USUAL,
    Asked,
    Explainer,
    Explanation,
    Reads,
    meaning,
    question_name,
    question_type,
)

__all__ = [
    "TYPES",
    "USUAL",
    "Asked",
    "Explainer",
    "Explanation",
    "Reads",
    "meaning",
    "question_name",
    "question_type",
]
