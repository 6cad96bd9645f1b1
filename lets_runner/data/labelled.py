"""Data sets with one class to an example: every split has its share of each class, and labels can be spoiled."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from lets_runner.data.noise import confused_labels, noisy_labels
from lets_runner.data.splits import SplitData, Splits, check_seed, stratified


class LabelledData(SplitData):
    """A data set with a training and a test set, and one class to an example: a subclass says how to read them.

    What `read` returns are dataclasses with `targets`, int64 of shape (N,), such as `Examples`.

    Args:
        label_noise: share of wrong training labels, in [0, 1]; of every class that has any, if `noise` is asymmetric.
        val_label_noise: the same for validation labels; None for as much as in training. A validation set cleaner than
            the training set makes its loss incomparable, and a learned radius goes the wrong way.
        noise: "symmetric" replaces a label by any other class, all equally likely; "asymmetric" by the one that it is
            easily taken for (Patrini et al. 2017, arXiv 1609.03683), which the data set must know.
        noise_seed: which labels those are.
        settings: see `SplitData`; `val_fraction` is the share of every class.

    Raises:
        ValueError: a setting out of its range.
    """

    target_kind: Literal["classes", "numbers"] | None = "classes"
    confusions: ClassVar[dict[int, int] | None] = None  # classes, and what each is easily taken for

    def __init__(
        self,
        *,
        label_noise: float = 0.0,
        val_label_noise: float | None = None,
        noise: str = "symmetric",
        noise_seed: int = 0,
        **settings: Any,
    ):
        super().__init__(**settings)
        for name, share in {"label_noise": label_noise, "val_label_noise": val_label_noise}.items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: must lie in [0, 1]")
        if noise not in ("symmetric", "asymmetric"):
            raise ValueError(f"noise={noise}: must be symmetric or asymmetric")
        if noise == "asymmetric" and self.confusions is None:
            raise ValueError(
                f"noise=asymmetric: {type(self).__name__} does not say which classes are taken for which; "
                "take noise=symmetric"
            )
        check_seed("noise_seed", noise_seed)
        self.label_noise, self.noise, self.noise_seed = label_noise, noise, noise_seed
        self.val_label_noise = label_noise if val_label_noise is None else val_label_noise

    def splits(self) -> Splits:
        """Read, split and spoil; the same three parts every time."""
        clean = super().splits()
        return Splits(
            train=self._spoiled(clean.train, self.label_noise, part=0),
            val=self._spoiled(clean.val, self.val_label_noise, part=1),
            test=clean.test,
        )

    def divide(self, train: Any) -> tuple[Tensor, Tensor]:
        return stratified(train.targets, self.val_fraction, seed=self.split_seed)

    def _spoiled(self, examples: Any, share: float, *, part: int) -> Any:
        if not share:
            return examples
        seed, labels = (self.noise_seed, part), examples.targets
        if self.noise == "symmetric":
            return replace(examples, targets=noisy_labels(labels, share, classes=self.classes, seed=seed))
        assert self.confusions is not None
        return replace(examples, targets=confused_labels(labels, share, self.confusions, seed=seed))
