"""No perturbation: the base optimizer alone, where a SAM is expected."""

from lets_runner.optim.sam import SAM


class UnperturbedSAM(SAM):
    """The base optimizer itself: no step perturbs and ρ is never used."""

    uses_radius = False
    graphable = True

    def branch(self, number: int) -> bool:
        return False
