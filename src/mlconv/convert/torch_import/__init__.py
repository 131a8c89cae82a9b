"""PyTorch sources: loaded without running what was not asked for, traced or exported, their failures explained."""
