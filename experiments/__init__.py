"""Results, and scripts for the reports that only this project needs."""
