"""What one step at a large radius costs on a fresh network: horizon LETS after such a step."""

from lets_runner import HorizonLETS, Step


class OneLargeStep(HorizonLETS):
    """Horizon LETS whose first step perturbs with ρ = 0.5, whatever it finds."""

    graphable = False

    def before_epsilon(self, step: Step) -> None:
        super().before_epsilon(step)
        if step.number == 1:
            self.sam.move_radius(0.5)
